//! What a running machine has and takes, as its QEMU tells.

use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_domain::hotplug::{
    BootDevices, driver_named, may_start_programs, pci_address, starts_program, unused_hotplug_netdevs,
};
use maqet_domain::path_policy::Purpose;
use maqet_domain::port::{Guard, ImageError, PathKind};
use maqet_domain::qemu::HOTPLUG_PREFIX;
use maqet_domain::qmp::DeviceProperties;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::{Action, ProcessIdentity, Run, VmEntry, VmName};
use serde_json::{Value, json};

use crate::device::error::DeviceError;
use crate::vm::unresponsive::ensure_responsive;
use crate::{App, Error};

/// Where the devices with an id are in QEMU's tree of objects.
pub(crate) const PERIPHERAL: &str = "/machine/peripheral";

/// Where those without one are.
const ANONYMOUS: &str = "/machine/peripheral-anon";

/// A running machine whose lock is held, and its monitor.
pub(crate) struct HotplugSession<'a> {
    pub(super) app: &'a App,
    pub(crate) entry: VmEntry,
    pub(crate) run: Run,
    process: ProcessIdentity,
    deadline: Duration,
    pub(crate) guard: Box<dyn Guard>,
}

/// A device of a running machine that has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) id: String,
    pub(crate) driver: String,
}

impl App {
    /// Locks a VM that runs, so that nobody else plugs in it.
    ///
    /// `deadline` is for each answer of QEMU.
    pub(crate) async fn plugged(
        &self,
        vm: &str,
        operation: &'static str,
        deadline: Duration,
    ) -> Result<HotplugSession<'_>, Error> {
        self.plugged_within(vm, operation, self.timeouts().lock, deadline).await
    }

    /// The same, waiting at most `patience` for whoever holds the lock.
    pub(crate) async fn plugged_within(
        &self,
        vm: &str,
        operation: &'static str,
        patience: Duration,
        deadline: Duration,
    ) -> Result<HotplugSession<'_>, Error> {
        let (guard, vm) = self.lock_within(vm, operation, patience).await?;
        let entry = vm.entry;
        if let Some(run) = entry.run.clone()
            && let Some(process) = self.observer().live_process(&run).await
        {
            ensure_responsive(&*self.ports.processes, &entry.name, &process)?;
            return Ok(HotplugSession { app: self, entry, run, process, deadline, guard });
        }
        let status = self.observer().observe_locked(&entry).await.status;
        Err(Error::WrongState { vm: entry.name, status, action: Action::Command })
    }

    /// Refuses a command for which QEMU would start a program while its sandbox ends it for that.
    pub(crate) fn refuse_programs(
        &self,
        vm: &VmName,
        process: &ProcessIdentity,
        command: &QmpCommand,
    ) -> Result<(), DeviceError> {
        if starts_program(command) && !may_start_programs(&self.ports.processes.words(process)) {
            return Err(DeviceError::Sandboxed { vm: vm.clone() });
        }
        Ok(())
    }

    /// Looks at a file that a guest is to be given, and returns its format.
    ///
    /// The content of a disk is the guest's, which may write there what looks like an image of another format, naming
    /// files of the host's. So the format is what the caller says or what the name says; a name that says nothing makes
    /// it a raw disk, if it does not look like anything else.
    pub(crate) async fn format_of(&self, file: &Path, given: Option<&str>, readonly: bool) -> Result<String, Error> {
        if !file.is_absolute() {
            return Err(DeviceError::Relative { path: file.to_owned() }.into());
        }
        let purpose = if readonly { Purpose::Read } else { Purpose::Share };
        if let Some(why) = self.preflight().refusal_reason(file, purpose).await {
            return Err(Error::PathRefused { path: file.to_owned(), reason: why });
        }
        match self.ports.paths.kind(file).await {
            PathKind::File => {}
            PathKind::Missing => return Err(DeviceError::NoFile { path: file.to_owned() }.into()),
            PathKind::Folder | PathKind::Other => return Err(DeviceError::NotAFile { path: file.to_owned() }.into()),
        }
        let by_name = file.extension().and_then(|end| end.to_str()).map(str::to_lowercase);
        if let Some(format) = given {
            return Ok(format.to_owned());
        }
        if let Some(format) = by_name.filter(|end| ["qcow2", "vmdk", "vdi", "vhdx"].contains(&end.as_str())) {
            return Ok(format);
        }
        let looks = self.ports.images.info(file).await?.format;
        if looks == "raw" {
            return Ok(looks);
        }
        Err(DeviceError::FormatUnsure { path: file.to_owned(), format: looks }.into())
    }
}

impl HotplugSession<'_> {
    /// Tells QEMU something.
    pub(crate) async fn ask(&self, command: &QmpCommand) -> Result<Value, QmpError> {
        self.app.ports.monitors.execute(&self.run.paths, command, self.deadline).await
    }

    /// Makes the back end of a network card.
    pub(crate) async fn add_netdev(&self, command: &QmpCommand) -> Result<(), Error> {
        self.app.refuse_programs(&self.entry.name, &self.process, command)?;
        match self.ask(command).await {
            Ok(_) => Ok(()),
            Err(QmpError::Refused { description, .. }) if description == "bridge helper failed" => {
                Err(DeviceError::BridgeRefused { vm: self.entry.name.clone() }.into())
            }
            Err(other) => Err(other.into()),
        }
    }

    /// Returns what the machine was started with.
    pub(crate) fn equipment(&self) -> BootDevices {
        BootDevices::from_args(&self.app.ports.processes.words(&self.process))
    }

    /// Returns the devices that have an id.
    pub(crate) async fn devices(&self) -> Result<Vec<Device>, QmpError> {
        self.devices_at(PERIPHERAL).await
    }

    /// Returns where the devices are that have no id and are a `driver`, also by its short name.
    pub(crate) async fn nameless(&self, driver: &str) -> Result<Vec<String>, QmpError> {
        let mut devices = self.devices_at(ANONYMOUS).await?;
        let drivers: Vec<String> = devices.iter().map(|device| device.driver.clone()).collect();
        let meant = driver_named(driver, &drivers);
        devices.retain(|device| Some(device.driver.as_str()) == meant);
        Ok(devices.into_iter().map(|device| format!("{ANONYMOUS}/{}", device.id)).collect())
    }

    async fn devices_at(&self, path: &str) -> Result<Vec<Device>, QmpError> {
        let listed = self.ask(&QmpCommand::new("qom-list").with("path", path)).await?;
        let device = |one: &Value| {
            let driver = one["type"].as_str()?.strip_prefix("child<")?.strip_suffix('>')?;
            Some(Device { id: one["name"].as_str()?.to_owned(), driver: driver.to_owned() })
        };
        Ok(items(&listed).filter_map(device).collect())
    }

    /// Returns the names of the drivers that are a `kind`.
    pub(crate) async fn drivers(&self, kind: &str) -> Result<Vec<String>, QmpError> {
        let command = QmpCommand::new("qom-list-types").with("implements", kind).with("abstract", false);
        let listed = self.ask(&command).await?;
        Ok(items(&listed).filter_map(|one| one["name"].as_str()).map(str::to_owned).collect())
    }

    /// Returns the properties of a driver; nothing of one that QEMU is not to be asked of.
    pub(crate) async fn properties(&self, driver: &str) -> Result<Option<DeviceProperties>, QmpError> {
        let Some(asking) = DeviceProperties::query(driver) else { return Ok(None) };
        let garbled =
            || QmpError::InvalidResponse { detail: format!("the properties of `{driver}` have no names or no types") };
        DeviceProperties::from_reply(&self.ask(&asking).await?).ok_or_else(garbled).map(Some)
    }

    /// Returns the bus that a device of PCI goes to where the machine's own takes none while it runs; nothing where it
    /// does, or where the driver is of another kind.
    pub(crate) async fn bus_for(&self, driver: &str, devices: &[Device]) -> Result<Option<String>, Error> {
        if !self.drivers("pci-device").await?.iter().any(|one| one == driver) {
            return Ok(None);
        }
        let mut ports: Vec<&Device> = devices.iter().filter(|device| device.driver == "pcie-root-port").collect();
        ports.sort_by_key(|port| &port.id);
        for port in &ports {
            if self.is_free(&port.id).await? {
                return Ok(Some(port.id.clone()));
            }
        }
        let kind = self.ask(&get("/machine", "type")).await?;
        if !kind.as_str().unwrap_or_default().starts_with("pc-q35") {
            return Ok(None);
        }
        let why = match ports.len() {
            0 => "it was started with none".to_owned(),
            1 => "its only one is taken".to_owned(),
            count => format!("all its {count} are taken"),
        };
        Err(DeviceError::NoPort { vm: self.entry.name.clone(), driver: driver.to_owned(), why }.into())
    }

    /// Returns whether nothing sits behind a port. A port of ours, whose bus has its name, or of the user's.
    async fn is_free(&self, port: &str) -> Result<bool, QmpError> {
        let listed = self.ask(&QmpCommand::new("qom-list").with("path", format!("{PERIPHERAL}/{port}/{port}"))).await?;
        Ok(!items(&listed).any(|one| one["name"].as_str().is_some_and(|name| name.starts_with("child["))))
    }

    /// Returns the bus a device sits on, and its place there where there are such places.
    pub(crate) async fn seat(&self, id: &str) -> Result<(Option<String>, Option<String>), QmpError> {
        let path = format!("{PERIPHERAL}/{id}");
        let bus = self.ask(&get(&path, "parent_bus")).await?;
        let bus = bus.as_str().and_then(|path| path.rsplit('/').next()).filter(|bus| !bus.is_empty());
        let address = match self.ask(&get(&path, "addr")).await {
            Ok(address) => address.as_u64().and_then(|devfn| u8::try_from(devfn).ok()).map(pci_address),
            // Other buses have no such places.
            Err(QmpError::Refused { .. }) => None,
            Err(other) => return Err(other),
        };
        Ok((bus.map(str::to_owned), address))
    }

    /// Removes the back ends of plugged devices that are there no more, and returns their names.
    ///
    /// They are left by who was killed half-way, and by guests that let a device go after nobody waited any more.
    pub(crate) async fn sweep(&self) -> Result<Vec<String>, QmpError> {
        let mut swept = Vec::new();
        for node in self.left_nodes().await? {
            if self.remove_node(&node).await? {
                swept.push(node);
            }
        }
        for netdev in unused_hotplug_netdevs(&self.info_network().await?) {
            self.ask(&QmpCommand::new("netdev_del").with("id", netdev.clone())).await?;
            swept.push(netdev);
        }
        Ok(swept)
    }

    /// Returns what [`HotplugSession::sweep`] would remove.
    pub(crate) async fn left_over(&self) -> Result<Vec<String>, QmpError> {
        let nodes = self.left_nodes().await?;
        Ok(nodes.into_iter().chain(unused_hotplug_netdevs(&self.info_network().await?)).collect())
    }

    /// Returns the block nodes of plugged devices that no device has.
    ///
    /// QEMU would refuse to remove the others, one by one.
    async fn left_nodes(&self) -> Result<Vec<String>, QmpError> {
        let mut nodes = self.nodes().await?;
        nodes.retain(|name| name.starts_with(HOTPLUG_PREFIX));
        if nodes.is_empty() {
            return Ok(nodes);
        }
        let blocks = self.ask(&QmpCommand::new("query-block")).await?;
        nodes.retain(|name| !items(&blocks).any(|block| block["inserted"]["node-name"] == name.as_str()));
        Ok(nodes)
    }

    /// Removes a block node that nothing uses; returns whether it did.
    pub(crate) async fn remove_node(&self, node: &str) -> Result<bool, QmpError> {
        match self.ask(&QmpCommand::new("blockdev-del").with("node-name", node)).await {
            Ok(_) => Ok(true),
            // QEMU itself refuses while a device has it.
            Err(QmpError::Refused { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Returns what the human monitor tells of cards and their back ends.
    pub(crate) async fn info_network(&self) -> Result<String, QmpError> {
        let command = QmpCommand::human_monitor("info network");
        Ok(self.ask(&command).await?.as_str().unwrap_or_default().to_owned())
    }

    /// Opens a file as the block node `node`.
    pub(crate) async fn add_node(&self, node: &str, file: &Path, format: &str, readonly: bool) -> Result<(), Error> {
        let filename =
            file.to_str().ok_or_else(|| maqet_domain::command_line::PathNotUtf8 { path: file.to_owned() })?;
        let command = QmpCommand::new("blockdev-add")
            .with("driver", format)
            .with("node-name", node)
            .with("read-only", readonly)
            .with("file", json!({ "driver": "file", "filename": filename }));
        match self.ask(&command).await {
            Ok(_) => Ok(()),
            // As in `Failed to get "write" lock` (7.2).
            Err(QmpError::Refused { description, .. }) if description.contains("\" lock") => {
                let by = self.app.ports.images.user(file).await;
                let orphan = self.app.orphans().among_users(by.as_ref()).await;
                let in_use = ImageError::InUse { path: PathBuf::from(file), by };
                Err(match orphan {
                    Some(pid) => Error::DiskOfOrphan { vm: self.entry.name.clone(), pid, source: in_use.into() },
                    None => in_use.into(),
                })
            }
            Err(other) => Err(other.into()),
        }
    }
}

/// Returns the command that reads a property.
fn get(path: &str, property: &str) -> QmpCommand {
    QmpCommand::new("qom-get").with("path", path).with("property", property)
}

/// Returns the items of a list that QEMU gave; anything else has none.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
