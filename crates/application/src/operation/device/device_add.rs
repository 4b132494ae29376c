//! `qmp device-add`: plugs a device into a running VM, with its backend.

use std::path::PathBuf;

use derive_setters::Setters;
use maqet_domain::event::kind;
use maqet_domain::hotplug::{
    BackendSpec, DeviceError, DeviceId, DevicePlan, DeviceRequest, FreePort, Netdev, VmDevices, is_pci_by_name,
    plan_device_add,
};
use maqet_domain::network::{Forward, forwards_of};
use maqet_domain::port::BuildUnavailable;
use maqet_domain::qmp::wording::is_drive_required;
use maqet_domain::qmp::{DeviceProperties, QmpCommand, QmpError, TypeKind, retyped};
use maqet_domain::storage::{ByteLimit, DriveLimits, RequestLimit};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, Operation};
use crate::device::image_format::image_format;
use crate::device::session::HotplugSession;
use crate::vm::monitor::Monitored;
use crate::vm::unresponsive::explain_unresponsive;
use crate::{App, Error, HumanDuration};

/// Plug a device into a running VM
///
/// With --file, the device is a disk; with --netdev, a network card. Its backend is created first, and removed again if
/// QEMU refuses the device. The definition does not change: the next start does not have the device.
///
/// Devices and properties that could reach the host require --allow-dangerous.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
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
#[non_exhaustive]
#[setters(into)]
pub struct QmpDeviceAdd {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The driver of the device, such as virtio-blk-pci
    pub driver: String,
    /// Its properties, by QEMU's names
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(value_name = "NAME=VALUE"))]
    #[setters(skip)]
    pub properties: Vec<String>,
    /// The ID of the device [default: derived from the driver, such as virtio-blk-0]
    #[cfg_attr(feature = "clap", arg(long))]
    pub id: Option<DeviceId>,
    /// The file of the disk
    #[cfg_attr(feature = "clap", arg(long, value_name = "FILE"))]
    #[setters(strip_option)]
    pub file: Option<PathBuf>,
    /// The format of the file [default: by its extension, else raw]
    #[cfg_attr(feature = "clap", arg(long, value_name = "FORMAT", requires = "file"))]
    #[setters(strip_option)]
    pub file_format: Option<String>,
    /// Make the disk read-only for the guest
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, requires = "file"))]
    pub readonly: bool,
    /// Limit the requests of the guest per second: a number, or read=N,write=N
    #[cfg_attr(feature = "clap", arg(long, value_name = "LIMIT", requires = "file"))]
    #[setters(strip_option)]
    pub iops: Option<RequestLimit>,
    /// Limit the bytes that the guest reads and writes per second: a size, or read=SIZE,write=SIZE
    #[cfg_attr(feature = "clap", arg(long, value_name = "LIMIT", requires = "file"))]
    #[setters(strip_option)]
    pub bps: Option<ByteLimit>,
    /// The backend of the network card: user, tap or bridge, with options as for QEMU's -netdev
    #[cfg_attr(feature = "clap", arg(long, value_name = "NETDEV", conflicts_with = "file"))]
    #[setters(strip_option)]
    pub netdev: Option<String>,
    /// Timeout for each reply of QEMU [default: `timeouts.qmp`, else 30s]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
    /// Allow devices that reach the host: its hardware, files and services
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub allow_dangerous: bool,
}

/// A device that was plugged in.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeviceAdded {
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// The ID of the device.
    pub device: String,
    /// The driver.
    pub driver: String,
    /// The bus it is on.
    pub bus: Option<String>,
    /// Its address on a PCI bus: slot and function.
    pub addr: Option<String>,
    /// The block node or network backend that was created for it.
    pub backend: Option<String>,
    /// Ports of the host that are forwarded to the guest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forward>,
    /// Why driver and properties were not checked before QEMU was asked to add the device.
    pub unchecked: Option<String>,
}

impl QmpDeviceAdd {
    /// Plugs in a device of `driver`.
    pub fn new(vm: impl Into<String>, driver: impl Into<String>) -> Self {
        Self { vm: vm.into(), driver: driver.into(), ..Self::default() }
    }

    /// Sets the properties, each as `name=value`.
    #[must_use]
    pub fn properties<P: Into<String>>(mut self, properties: impl IntoIterator<Item = P>) -> Self {
        self.properties = properties.into_iter().map(Into::into).collect();
        self
    }

    /// Checks the file or the text of the network backend.
    async fn backend(&self, app: &App) -> Result<Option<BackendSpec>, Error> {
        match (&self.file, &self.netdev) {
            (Some(_), Some(_)) => {
                Err(DeviceError::ArgumentConflict { arguments: "a file and a network backend" }.into())
            }
            (Some(file), None) => {
                let format = image_format(app, file, self.file_format.as_deref(), self.readonly).await?;
                let limits = DriveLimits { iops: self.iops.map(|limit| limit.0), bps: self.bps.map(|limit| limit.0) };
                Ok(Some(BackendSpec::Disk { file: file.clone(), format, read_only: self.readonly, limits }))
            }
            (None, Some(netdev)) => {
                let netdev: Netdev = netdev.parse().map_err(DeviceError::Netdev)?;
                let missing = netdev.tap_device().and_then(|device| app.preflight().missing_tap(device));
                missing.map_or(Ok(Some(BackendSpec::Network(netdev))), |missing| Err(missing.into()))
            }
            (None, None) => Ok(None),
        }
    }

    /// Asks QEMU and its build for what the plan depends on, and plans; also returns why the build could not be asked.
    async fn plan(
        &self,
        session: &HotplugSession<'_>,
        backend: Option<&BackendSpec>,
    ) -> Result<(DevicePlan, Option<BuildUnavailable>), Error> {
        let request = DeviceRequest {
            driver: &self.driver,
            properties: &self.properties,
            id: self.id.as_ref(),
            backend,
            allow_dangerous: self.allow_dangerous,
        };
        let driver = driver_of(session, &request).await?;
        let plugged = session.devices().await?;
        let needs_port = driver.is_pci && !request.has_bus();
        let port = if needs_port { session.free_port(&plugged).await? } else { FreePort::NotNeeded };
        let devices = VmDevices {
            vm: &session.vm.entry,
            properties: driver.properties.as_ref(),
            plugged: &plugged,
            boot: &session.vm.boot_devices(),
            port: &port,
        };
        Ok((plan_device_add(&request, &driver.name, &devices)?, driver.unchecked))
    }
}

/// What is known of a driver.
struct Driver {
    name: String,
    properties: Option<DeviceProperties>,
    is_pci: bool,
    /// Why it is not known whether there is such a driver.
    unchecked: Option<BuildUnavailable>,
}

/// Finds a driver; where the build of QEMU cannot be asked, its name has to suffice.
async fn driver_of(session: &HotplugSession<'_>, request: &DeviceRequest<'_>) -> Result<Driver, Error> {
    let unchecked = |unavailable| Driver {
        name: request.driver.to_owned(),
        properties: None,
        is_pci: is_pci_by_name(request.driver),
        unchecked: Some(unavailable),
    };
    let drivers = match session.drivers(TypeKind::Device).await {
        Ok(drivers) => drivers,
        Err(unavailable) => return Ok(unchecked(unavailable)),
    };
    let name = request.find_driver(&drivers)?;
    let described = async { Ok((session.properties(name).await?, session.drivers(TypeKind::PciDevice).await?)) };
    match described.await {
        Ok((properties, pci)) => {
            Ok(Driver { name: name.to_owned(), properties, is_pci: pci.iter().any(|one| one == name), unchecked: None })
        }
        Err(unavailable) => Ok(unchecked(unavailable)),
    }
}

impl Operation for QmpDeviceAdd {
    const NAME: &'static str = "qmp.device-add";
    const EFFECT: Effect = Effect::Acts;
    type Output = DeviceAdded;

    async fn run(&self, app: &App) -> Result<Done<DeviceAdded>, Error> {
        // Boxed, as it holds a session, which makes it large.
        match Box::pin(self.plug_in(app)).await {
            Ok(done) => Ok(done),
            Err(error) => Err(explain_unresponsive(app, &self.vm, error).await),
        }
    }
}

impl QmpDeviceAdd {
    async fn plug_in(&self, app: &App) -> Result<Done<DeviceAdded>, Error> {
        let backend = self.backend(app).await?;
        let timeout = self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration);
        let (guard, vm) = app.vms().lock(&self.vm, Self::NAME).await?;
        let session = HotplugSession::open(app, guard, &vm).await?.with_timeout(timeout);
        let (plan, unchecked) = self.plan(&session, backend.as_ref()).await?;
        // Unused backends, left by killed processes, may have the file open or use the name.
        session.remove_unused_backends().await?;
        execute(app, &session, &plan).await?;

        let bus = session.bus(plan.id.as_str()).await?;
        let addr = session.pci_address(plan.id.as_str()).await?;
        let forwards = forwards(&session, &plan).await;
        let HotplugSession { vm: Monitored { entry, run, .. }, guard, .. } = session;
        let added = DeviceAdded {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            device: plan.id.to_string(),
            driver: plan.driver,
            bus,
            addr,
            backend: plan.backend.map(|_| plan.id.backend_name()),
            forwards,
            unchecked: unchecked.map(|reason| reason.to_string()),
        };
        let data = json!({ "boot": run.boot, "device": added.device, "driver": added.driver, "bus": added.bus });
        let event = app.committer().event(kind::DEVICE_ADDED, &entry, data);
        Ok(Done::reading(added).about(entry.id).event(event).holding(guard))
    }
}

/// Creates the backend and then the device, or neither.
async fn execute(app: &App, session: &HotplugSession<'_>, plan: &DevicePlan) -> Result<(), Error> {
    if let Some(backend) = &plan.backend {
        session.add_backend(&plan.id.backend_name(), backend).await?;
        app.faults.reach(FaultPoint::DeviceBackendAdded);
    }
    let Err(error) = add(session, &plan.command).await else { return Ok(()) };
    // After any other error the device may still appear, and would need its backend; if it does not, the next command
    // removes that.
    if matches!(error, QmpError::Refused { .. })
        && plan.backend.is_some()
        && let Err(error) = session.remove_unused_backends().await
    {
        tracing::warn!(%error, device = plan.id.as_str(), "cannot remove the backend of the device");
    }
    Err(add_error(&plan.driver, error))
}

/// Adds the device, and converts strings to the types that QEMU expects: it names one with each refusal.
async fn add(session: &HotplugSession<'_>, command: &QmpCommand) -> Result<(), QmpError> {
    let mut command = command.clone();
    loop {
        let Err(error) = session.execute(&command).await else { return Ok(()) };
        // Ends, as each time one string less is left.
        match error.refusal().and_then(|refusal| retyped(&command, refusal)) {
            Some(typed) => command = typed,
            None => return Err(error),
        }
    }
}

fn add_error(driver: &str, error: QmpError) -> Error {
    if error.refusal().is_some_and(is_drive_required) {
        return DeviceError::FileRequired { driver: driver.to_owned() }.into();
    }
    error.into()
}

/// Returns the forwards of a new network backend, with the ports of the host that QEMU chose.
async fn forwards(session: &HotplugSession<'_>, plan: &DevicePlan) -> Vec<Forward> {
    match &plan.backend {
        Some(BackendSpec::Network(netdev)) if netdev.has_forwards() => match session.vm.info_usernet().await {
            Some(usernet) => forwards_of(&plan.id.backend_name(), &usernet),
            None => netdev.forwards().to_vec(),
        },
        Some(_) | None => Vec::new(),
    }
}
