//! A running VM whose devices are changed, under its lock.

use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_domain::hotplug::{
    BackendSpec, DeviceError, FreePort, PluggedDevice, find_driver, limited_drive, limited_drive_id, pci_address,
    unused_hotplug_netdevs,
};
use maqet_domain::port::{BuildUnavailable, DiskImages, Guard, ImageError, Paths};
use maqet_domain::qemu::HOTPLUG_PREFIX;
use maqet_domain::qmp::wording::{is_bridge_helper_failure, is_image_locked};
use maqet_domain::qmp::{DeviceProperties, ErrorClass, QmpCommand, QmpError, TypeKind, TypeQuery, children};
use maqet_domain::storage::HostFile;
use maqet_domain::vm::Vm;
use serde_json::{Value, json};

use crate::vm::monitor::Monitored;
use crate::vm::orphan::Orphans;
use crate::{App, Error};

/// The devices with an id in QEMU's object tree.
pub(crate) const PERIPHERAL: &str = "/machine/peripheral";

/// The devices without one.
const ANONYMOUS: &str = "/machine/peripheral-anon";

/// A running VM whose lock is held, and its monitor.
pub(crate) struct HotplugSession<'a> {
    pub(crate) vm: Monitored<'a>,
    pub(crate) guard: Box<dyn Guard>,
    images: &'a dyn DiskImages,
    paths: &'a dyn Paths,
    orphans: Orphans<'a>,
}

impl<'a> HotplugSession<'a> {
    /// Opens a session with a VM that the caller has locked.
    pub(crate) async fn open(app: &'a App, guard: Box<dyn Guard>, vm: &Vm) -> Result<Self, Error> {
        match Monitored::live(app, &vm.entry).await? {
            Some(vm) => {
                // The devices the VM was started with are in its command line.
                vm.visible_process()?;
                let (images, paths) = (&*app.ports.images, &*app.ports.paths);
                Ok(Self { vm, guard, images, paths, orphans: app.orphans() })
            }
            None => Err(Error::not_running(&vm.entry, app.observer().observe_locked(&vm.entry).await.status)),
        }
    }

    /// Replaces the timeout for each reply of QEMU.
    pub(crate) fn with_timeout(self, timeout: Duration) -> Self {
        Self { vm: self.vm.with_timeout(timeout), ..self }
    }

    /// Runs a command.
    pub(crate) async fn execute(&self, command: &QmpCommand) -> Result<Value, QmpError> {
        self.vm.execute(command).await
    }

    /// Creates a backend.
    pub(crate) async fn add_backend(&self, name: &str, backend: &BackendSpec) -> Result<(), Error> {
        match backend {
            BackendSpec::Disk { file, format, read_only, limits } if limits.is_unlimited() => {
                self.add_node(name, file, format, *read_only).await
            }
            BackendSpec::Disk { file, format, read_only, limits } => {
                let path = path_of(file)?;
                let kind = self.paths.kind(file).await.of_drive();
                let options = limited_drive(name, HostFile { path, kind }, format, *read_only, limits);
                let command = QmpCommand::human_monitor_with("drive_add 0", &options);
                match self.execute_line(&command).await {
                    Ok(()) => Ok(()),
                    Err(error) => Err(self.file_error(file, error).await),
                }
            }
            BackendSpec::Network(netdev) => {
                let command = QmpCommand { execute: "netdev_add".to_owned(), arguments: netdev.arguments(name) };
                self.vm.refuse_programs(&command)?;
                match self.execute(&command).await {
                    Ok(_) => Ok(()),
                    Err(error) if error.refusal().is_some_and(is_bridge_helper_failure) => {
                        Err(DeviceError::BridgeRefused { vm: self.vm.entry.name.clone() }.into())
                    }
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Opens a file as the block node `node`.
    pub(crate) async fn add_node(&self, node: &str, file: &Path, format: &str, read_only: bool) -> Result<(), Error> {
        let filename = path_of(file)?;
        let driver = self.paths.kind(file).await.of_drive().driver();
        let command = QmpCommand::new("blockdev-add")
            .with("driver", format)
            .with("node-name", node)
            .with("read-only", read_only)
            .with("file", json!({ "driver": driver, "filename": filename }));
        match self.execute(&command).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.file_error(file, error).await),
        }
    }

    /// Returns the error of a file that QEMU could not open; one that is in use names who has it open.
    async fn file_error(&self, file: &Path, error: QmpError) -> Error {
        if !error.refusal().is_some_and(is_image_locked) {
            return error.into();
        }
        let by = self.images.user(file).await;
        let orphan = self.orphans.among_users(by.as_ref()).await;
        let in_use = ImageError::InUse { path: PathBuf::from(file), by };
        match orphan {
            Some(pid) => Error::DiskOfOrphan { vm: self.vm.entry.name.clone(), pid, source: in_use.into() },
            None => in_use.into(),
        }
    }

    /// Runs a line of the human monitor that replies nothing or `OK`, else why it failed.
    async fn execute_line(&self, command: &QmpCommand) -> Result<(), QmpError> {
        let reply = self.execute(command).await?;
        match reply.as_str().unwrap_or_default().trim() {
            "" | "OK" => Ok(()),
            failure => {
                let description = failure.strip_prefix("Error: ").unwrap_or(failure).replace("\r\n", " ");
                let (command, class) = (command.execute.clone(), ErrorClass::Generic);
                Err(QmpError::Refused { command, class, description })
            }
        }
    }

    /// Returns the devices that have an id.
    pub(crate) async fn devices(&self) -> Result<Vec<PluggedDevice>, QmpError> {
        self.devices_at(PERIPHERAL).await
    }

    /// Returns the paths of the devices of a driver that have no id.
    pub(crate) async fn anonymous_devices(&self, driver: &str) -> Result<Vec<String>, QmpError> {
        let mut devices = self.devices_at(ANONYMOUS).await?;
        let drivers: Vec<String> = devices.iter().map(|device| device.driver.clone()).collect();
        let driver = find_driver(driver, &drivers);
        devices.retain(|device| Some(device.driver.as_str()) == driver);
        Ok(devices.into_iter().map(|device| format!("{ANONYMOUS}/{}", device.id)).collect())
    }

    async fn devices_at(&self, path: &str) -> Result<Vec<PluggedDevice>, QmpError> {
        let reply = self.execute(&QmpCommand::new("qom-list").with("path", path)).await?;
        Ok(children(&reply).into_iter().map(|(id, driver)| PluggedDevice { id, driver }).collect())
    }

    /// Returns the drivers of a `kind` that the build of QEMU has.
    pub(crate) async fn drivers(&self, kind: TypeKind) -> Result<Vec<String>, BuildUnavailable> {
        let reply = self.vm.ask_build(&TypeQuery::Types(kind)).await?;
        Ok(names(&reply.unwrap_or_default(), "name"))
    }

    /// Returns the properties of a driver; `None` if they cannot be queried.
    pub(crate) async fn properties(&self, driver: &str) -> Result<Option<DeviceProperties>, BuildUnavailable> {
        let Some(query) = TypeQuery::properties(driver) else { return Ok(None) };
        Ok(self.vm.ask_build(&query).await?.as_ref().and_then(DeviceProperties::from_reply))
    }

    /// Returns the port for a PCI device on a machine whose own bus takes none while it runs.
    pub(crate) async fn free_port(&self, devices: &[PluggedDevice]) -> Result<FreePort, QmpError> {
        let ports = devices.iter().filter(|device| device.driver == "pcie-root-port");
        let mut ports: Vec<&str> = ports.map(|port| port.id.as_str()).collect();
        ports.sort_unstable();
        for port in &ports {
            if self.is_free(port).await? {
                return Ok(FreePort::Bus((*port).to_owned()));
            }
        }
        let machine = self.execute(&get("/machine", "type")).await?;
        let needs_port = machine.as_str().unwrap_or_default().starts_with("pc-q35");
        Ok(if needs_port { FreePort::None(ports.len()) } else { FreePort::NotNeeded })
    }

    /// Returns whether nothing is connected to a port; the bus of a port has its name.
    async fn is_free(&self, port: &str) -> Result<bool, QmpError> {
        let path = format!("{PERIPHERAL}/{port}/{port}");
        let reply = self.execute(&QmpCommand::new("qom-list").with("path", path)).await?;
        Ok(!items(&reply).any(|item| item["name"].as_str().is_some_and(|name| name.starts_with("child["))))
    }

    /// Returns the bus of a device.
    pub(crate) async fn bus(&self, id: &str) -> Result<Option<String>, QmpError> {
        let bus = self.execute(&get(&format!("{PERIPHERAL}/{id}"), "parent_bus")).await?;
        let name = bus.as_str().and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty());
        Ok(name.map(str::to_owned))
    }

    /// Returns the address of a device on a PCI bus; other buses have none.
    pub(crate) async fn pci_address(&self, id: &str) -> Result<Option<String>, QmpError> {
        match self.execute(&get(&format!("{PERIPHERAL}/{id}"), "addr")).await {
            Ok(address) => Ok(address.as_u64().and_then(|devfn| u8::try_from(devfn).ok()).map(pci_address)),
            Err(QmpError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the backends of hot-plugged devices that no longer exist, and returns their names.
    ///
    /// A killed process leaves them, and so does a guest that releases a device after the timeout.
    pub(crate) async fn remove_unused_backends(&self) -> Result<Vec<String>, QmpError> {
        let mut removed = Vec::new();
        for node in self.unused_nodes().await? {
            if self.remove_node(&node).await? || self.remove_limited(&node).await? {
                removed.push(node);
            }
        }
        for netdev in unused_hotplug_netdevs(&self.info_network().await?) {
            self.execute(&QmpCommand::new("netdev_del").with("id", netdev.clone())).await?;
            removed.push(netdev);
        }
        Ok(removed)
    }

    /// Returns what [`remove_unused_backends`](Self::remove_unused_backends) would remove.
    pub(crate) async fn unused_backends(&self) -> Result<Vec<String>, QmpError> {
        let nodes = self.unused_nodes().await?;
        Ok(nodes.into_iter().chain(unused_hotplug_netdevs(&self.info_network().await?)).collect())
    }

    /// Returns the block nodes of hot-plugged devices that no device uses.
    ///
    /// QEMU would refuse to remove the others, one by one.
    async fn unused_nodes(&self) -> Result<Vec<String>, QmpError> {
        let mut nodes = self.nodes().await?;
        nodes.retain(|name| name.starts_with(HOTPLUG_PREFIX));
        if nodes.is_empty() {
            return Ok(nodes);
        }
        let blocks = self.execute(&QmpCommand::new("query-block")).await?;
        // A drive is listed without a device, too.
        let is_used = |block: &Value| block["qdev"].as_str().is_some_and(|device| !device.is_empty());
        nodes.retain(|name| {
            !items(&blocks).any(|block| block["inserted"]["node-name"] == name.as_str() && is_used(block))
        });
        Ok(nodes)
    }

    /// Removes a drive with limits that no device uses, with its node; returns whether it did.
    async fn remove_limited(&self, node: &str) -> Result<bool, QmpError> {
        let drive = limited_drive_id(node);
        let blocks = self.execute(&QmpCommand::new("query-block")).await?;
        if !items(&blocks).any(|block| block["device"] == drive.as_str()) {
            return Ok(false);
        }
        match self.execute_line(&QmpCommand::human_monitor_with("drive_del", &drive)).await {
            Ok(()) => Ok(true),
            Err(QmpError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the names of all block nodes.
    pub(super) async fn nodes(&self) -> Result<Vec<String>, QmpError> {
        let reply = self.execute(&QmpCommand::new("query-named-block-nodes").with("flat", true)).await?;
        Ok(names(&reply, "node-name"))
    }

    /// Removes a block node, unless it is in use; returns whether it did.
    pub(crate) async fn remove_node(&self, node: &str) -> Result<bool, QmpError> {
        match self.execute(&QmpCommand::new("blockdev-del").with("node-name", node)).await {
            Ok(_) => Ok(true),
            Err(QmpError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the list of network cards and their backends.
    pub(crate) async fn info_network(&self) -> Result<String, QmpError> {
        let reply = self.execute(&QmpCommand::human_monitor("info network")).await?;
        Ok(reply.as_str().unwrap_or_default().to_owned())
    }
}

fn path_of(file: &Path) -> Result<&str, Error> {
    Ok(file.to_str().ok_or_else(|| maqet_domain::command_line::PathNotUtf8 { path: file.to_owned() })?)
}

/// Returns the command that reads a property.
fn get(path: &str, property: &str) -> QmpCommand {
    QmpCommand::new("qom-get").with("path", path).with("property", property)
}

/// Returns the items of a list in a reply; none if it is not a list.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Returns the texts under `key` of the items of a list.
fn names(reply: &Value, key: &str) -> Vec<String> {
    items(reply).filter_map(|item| item[key].as_str()).map(str::to_owned).collect()
}
