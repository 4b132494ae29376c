//! `qmp device-add`: a device plugged into a running machine, with its back end.

use std::path::PathBuf;

use maqet_domain::event::kind;
use maqet_domain::hotplug::{DeviceId, InvalidNetdev, InvalidProperty, Netdev, driver_named, parse_pair};
use maqet_domain::network::{Forward, MacAddress, forwards_of};
use maqet_domain::qmp::{DeviceProperties, SchemaError, check_host_access};
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::text::similar;
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::app::operations::{Done, Effect, Operation};
use crate::device::error::DeviceError;
use crate::device::session::{self, HotplugSession};
use crate::qmp::CommandError;
use crate::vm::monitor::info_usernet;
use crate::{App, Error, HumanDuration};

/// Plug a device into a running VM
///
/// With --file the device is a disk in that file, with --netdev a network card: what is behind it is made first, and
/// removed again if QEMU refuses the device. The definition stays as it is: the device is gone at the next start.
///
/// Devices and properties that stand for something of the host ask for --allow-dangerous.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[cfg_attr(
    feature = "clap",
    command(after_help = "\
Examples:
  maqet qmp device-add web virtio-blk-pci --file data.qcow2 serial=DATA-1
  maqet qmp device-add web virtio-net-pci --netdev user,forward=0:22
  maqet qmp device-add web usb-tablet bus=usb.0")
)]
#[serde(deny_unknown_fields)]
pub struct QmpDeviceAdd {
    /// Name, id, or unique beginning of an id
    pub vm: String,
    /// The kind of device, by QEMU's name, such as virtio-blk-pci
    pub driver: String,
    /// Its properties, by QEMU's names
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(value_name = "NAME=VALUE"))]
    pub properties: Vec<String>,
    /// The id it gets [default: one made of its kind and a number]
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub id: Option<DeviceId>,
    /// The file that is the disk
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "FILE"))]
    pub file: Option<PathBuf>,
    /// The format of the file [default: what its name ends with, else raw]
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "FORMAT", requires = "file"))]
    pub file_format: Option<String>,
    /// Let the guest read the file only
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, requires = "file"))]
    pub readonly: bool,
    /// What the network card is connected to: user, tap or bridge, with options as for QEMU's -netdev
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "NETDEV", conflicts_with = "file"))]
    pub netdev: Option<String>,
    /// How long QEMU may take [default: `timeouts.qmp`, else 30s]
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
    /// Let it give the guest hardware, files or services of the host
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub allow_dangerous: bool,
}

/// A device that was plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceAdded {
    /// The VM's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The id of the device.
    pub device: String,
    /// Its kind.
    pub driver: String,
    /// The bus it sits on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// Its place on the bus, where there are such places: slot and function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addr: Option<String>,
    /// The block node or network back end that was made for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_end: Option<String>,
    /// Ports of the host that lead to the guest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forward>,
}

/// What is made before the device.
enum BackEnd {
    Disk { file: PathBuf, format: String, readonly: bool },
    Network(Netdev),
}

impl QmpDeviceAdd {
    /// Plugs in a device of this kind.
    pub fn new(vm: impl Into<String>, driver: impl Into<String>) -> Self {
        Self {
            vm: vm.into(),
            driver: driver.into(),
            properties: Vec::new(),
            id: None,
            file: None,
            file_format: None,
            readonly: false,
            netdev: None,
            timeout: None,
            allow_dangerous: false,
        }
    }

    async fn back_end(&self, app: &App) -> Result<Option<BackEnd>, Error> {
        match (&self.file, &self.netdev) {
            (Some(_), Some(_)) => Err(DeviceError::Conflict { what: "a file and a network back end" }.into()),
            (Some(file), None) => {
                let format = app.format_of(file, self.file_format.as_deref(), self.readonly).await?;
                Ok(Some(BackEnd::Disk { file: file.clone(), format, readonly: self.readonly }))
            }
            (None, Some(text)) => {
                let netdev = text.parse().map_err(|error: InvalidNetdev| DeviceError::from(error))?;
                Ok(Some(BackEnd::Network(netdev)))
            }
            (None, None) => Ok(None),
        }
    }

    /// Returns the properties with the types that QEMU wants, and the id if it is among them.
    fn values(
        &self,
        driver: &str,
        known: Option<&DeviceProperties>,
    ) -> Result<(Map<String, Value>, Option<DeviceId>), DeviceError> {
        let (mut command, mut id) = (QmpCommand::new("device_add"), self.id.clone());
        for text in &self.properties {
            let (name, value) = parse_pair(text)?;
            if name == "id" {
                if id.replace(DeviceId::parse(&value)?).is_some() {
                    return Err(DeviceError::Conflict { what: "`id=` and `--id`" });
                }
            } else if name == "driver" {
                return Err(DeviceError::Conflict { what: "a device and `driver=`" });
            } else {
                command = command.with(&name, value);
            }
        }
        let command = match known {
            Some(known) => known.typed(command).map_err(|error| misfit(driver, error))?,
            None => command,
        };
        Ok((command.arguments, id))
    }
}

/// Tells of a property by its driver.
fn misfit(driver: &str, error: SchemaError) -> DeviceError {
    match error {
        SchemaError::ArgumentNotFound { argument: given, similar, .. } => {
            DeviceError::NoProperty { driver: driver.to_owned(), given, similar }
        }
        SchemaError::InvalidValue { argument, value, expected, .. } => {
            InvalidProperty::value(&argument, &value, &expected).into()
        }
        other => InvalidProperty { given: driver.to_owned(), why: other.to_string() }.into(),
    }
}

impl BackEnd {
    /// Returns the property of the device that names it.
    const fn property(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "drive",
            Self::Network(_) => "netdev",
        }
    }

    const fn in_words(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "file",
            Self::Network(_) => "network back end",
        }
    }

    async fn make(&self, plugged: &HotplugSession<'_>, name: &str) -> Result<(), Error> {
        match self {
            Self::Disk { file, format, readonly } => plugged.add_node(name, file, format, *readonly).await,
            Self::Network(netdev) => {
                let command = QmpCommand { execute: "netdev_add".to_owned(), arguments: netdev.arguments(name) };
                plugged.add_netdev(&command).await
            }
        }
    }
}

impl Operation for QmpDeviceAdd {
    const NAME: &'static str = "qmp.device-add";
    const EFFECT: Effect = Effect::Acts;
    type Output = DeviceAdded;

    async fn run(&self, app: &App) -> Result<Done<DeviceAdded>, Error> {
        let back_end = self.back_end(app).await?;
        let deadline = self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration);
        let plugged = app.plugged(&self.vm, Self::NAME, deadline).await?;
        let known = plugged.drivers("device").await?;
        let driver = driver_named(&self.driver, &known).ok_or_else(|| DeviceError::NoDriver {
            given: self.driver.chars().take(80).collect(),
            similar: similar(&self.driver, known.iter().map(String::as_str)),
        })?;
        let properties = plugged.properties(driver).await?;
        let has = |name: &str| properties.as_ref().is_some_and(|known| known.has(name));
        let (mut values, id) = self.values(driver, properties.as_ref())?;

        let devices = plugged.devices().await?;
        let id = free_id(&plugged, &devices, id, driver)?;
        if !values.contains_key("bus")
            && let Some(bus) = plugged.bus_for(driver, &devices).await?
        {
            values.insert("bus".to_owned(), json!(bus));
        }
        if let Some(back_end) = &back_end {
            let property = back_end.property();
            if !has(property) {
                return Err(DeviceError::TakesNo { driver: driver.to_owned(), what: back_end.in_words() }.into());
            }
            if values.insert(property.to_owned(), json!(id.back_end())).is_some() {
                return Err(DeviceError::Conflict { what: "a back end and the property that names another one" }.into());
            }
            // A controller of NVMe needs a serial number; the id is as good as any.
            if driver == "nvme" {
                values.entry("serial").or_insert_with(|| json!(id));
            }
        }
        // QEMU gives the first card of every machine the same address.
        if ["netdev", "mac"].iter().all(|name| has(name)) {
            let mac = || json!(MacAddress::of_plugged(&plugged.entry.id.bytes(), id.as_str()).to_string());
            values.entry("mac").or_insert_with(mac);
        }
        let device = Device { driver, id: &id, values };
        check_host_access(&device.command(), self.allow_dangerous).map_err(CommandError::from)?;
        // What somebody who was killed left may have the file, or the name.
        plugged.sweep().await?;
        plug(app, &plugged, &device, back_end.as_ref()).await?;
        self.done(app, plugged, driver, &id, back_end).await
    }
}

/// Returns the id of the new device, which nothing else has.
///
/// Nor may it be what the definition calls something, also after that was taken out: `device-del` is to know what is
/// meant.
fn free_id(
    plugged: &HotplugSession<'_>,
    devices: &[session::Device],
    given: Option<DeviceId>,
    driver: &str,
) -> Result<DeviceId, DeviceError> {
    let equipment = plugged.equipment();
    let there: Vec<String> = devices.iter().map(|device| device.id.clone()).collect();
    let Some(id) = given else {
        let taken: Vec<String> = there.into_iter().chain(equipment.names().map(str::to_owned)).collect();
        return Ok(DeviceId::free(driver, &taken));
    };
    let (vm, text) = (plugged.entry.name.clone(), id.to_string());
    if there.contains(&text) {
        return Err(DeviceError::IdTaken { vm, id: text });
    }
    if equipment.names().any(|name| name == text) {
        return Err(DeviceError::IdOfDefinition { vm, id: text });
    }
    Ok(id)
}

/// A device that is to be plugged in.
struct Device<'a> {
    driver: &'a str,
    id: &'a DeviceId,
    values: Map<String, Value>,
}

impl Device<'_> {
    /// Returns the command that plugs it in.
    fn command(&self) -> QmpCommand {
        let command = QmpCommand { execute: "device_add".to_owned(), arguments: self.values.clone() };
        command.with("driver", self.driver).with("id", self.id.as_str())
    }
}

/// Makes the back end and then the device, or neither.
async fn plug(
    app: &App,
    plugged: &HotplugSession<'_>,
    device: &Device<'_>,
    back_end: Option<&BackEnd>,
) -> Result<(), Error> {
    if let Some(back_end) = back_end {
        back_end.make(plugged, &device.id.back_end()).await?;
        app.faults.reach(FaultPoint::DeviceBackEndMade);
    }
    match plugged.ask(&device.command()).await {
        Ok(_) => Ok(()),
        Err(refused @ QmpError::Refused { .. }) => {
            // Anything else may still come true, and then it needs its back end; if not, the next one removes it.
            if back_end.is_some()
                && let Err(error) = plugged.sweep().await
            {
                tracing::warn!(%error, device = device.id.as_str(), "its back end could not be removed");
            }
            Err(explained(device, refused))
        }
        Err(other) => Err(other.into()),
    }
}

/// QEMU tells of a missing drive in words of its own inside.
fn explained(device: &Device<'_>, refused: QmpError) -> Error {
    match &refused {
        QmpError::Refused { description, .. }
            if description == "drive property not set" || description.contains("drive is empty") =>
        {
            DeviceError::FileNeeded { driver: device.driver.to_owned() }.into()
        }
        _ => refused.into(),
    }
}

impl QmpDeviceAdd {
    /// Says what came of it.
    async fn done(
        &self,
        app: &App,
        plugged: HotplugSession<'_>,
        driver: &str,
        id: &DeviceId,
        back_end: Option<BackEnd>,
    ) -> Result<Done<DeviceAdded>, Error> {
        let (bus, addr) = plugged.seat(id.as_str()).await?;
        let forwards = match &back_end {
            Some(BackEnd::Network(netdev)) if netdev.has_forwards() => {
                let shown = info_usernet(app, &plugged.run).await;
                shown.map_or_else(|| netdev.forwards().to_vec(), |shown| forwards_of(&id.back_end(), &shown))
            }
            Some(_) | None => Vec::new(),
        };
        let HotplugSession { entry, run, guard, .. } = plugged;
        let added = DeviceAdded {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            device: id.to_string(),
            driver: driver.to_owned(),
            bus,
            addr,
            back_end: back_end.map(|_| id.back_end()),
            forwards,
        };
        let data = json!({ "boot": run.boot, "device": added.device, "driver": driver, "bus": added.bus });
        let event = app.committer().event(kind::DEVICE_ADDED, &entry, data);
        Ok(Done::reading(added).about(entry.id).event(event).holding(guard))
    }
}
