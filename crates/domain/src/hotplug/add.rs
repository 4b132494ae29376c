//! The plan for `device-add`, computed from QEMU's reports.

use std::path::PathBuf;

use serde_json::json;

use super::property::{driver_not_found, parse_properties};
use super::{BootDevices, DeviceError, DeviceId, Netdev, PluggedDevice, find_driver};
use crate::network::MacAddress;
use crate::qemu::{LIMITS_PREFIX, Switch};
use crate::qmp::{DeviceProperties, QmpCommand, check_host_access};
use crate::storage::{DriveLimits, HostFile};
use crate::vm::VmEntry;

/// Returns the ID of the drive that has the block node `node` and its limits.
pub fn limited_drive_id(node: &str) -> String {
    format!("{LIMITS_PREFIX}{node}")
}

/// Returns the options of a drive with limits, for the human monitor's `drive_add`: as of a drive of the definition, its
/// device is limited from its first request on.
pub fn limited_drive(node: &str, file: HostFile<'_>, format: &str, read_only: bool, limits: &DriveLimits) -> String {
    let drive = Switch::new("drive").option("if", "none").option("id", limited_drive_id(node)).option("driver", format);
    let drive = drive.option("node-name", node).flag("read-only", read_only);
    let drive = drive.flag("snapshot", false).flag("auto-read-only", false);
    let drive = drive.option("file.driver", file.kind.driver()).option("file.filename", file.path);
    limits.of_drive(drive).argument().unwrap_or_default().to_owned()
}

/// The backend to create before a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendSpec {
    /// A disk in a file.
    Disk {
        /// The file.
        file: PathBuf,
        /// Its image format.
        format: String,
        /// Whether the guest cannot write it.
        read_only: bool,
        /// How much the guest may request in a second.
        limits: DriveLimits,
    },
    /// A network backend.
    Network(Netdev),
}

/// A device to plug in.
#[derive(Debug, Clone, Copy)]
pub struct DeviceRequest<'a> {
    /// The driver, as the user wrote it.
    pub driver: &'a str,
    /// Its properties, as `name=value`.
    pub properties: &'a [String],
    /// Its id; one is chosen without.
    pub id: Option<&'a DeviceId>,
    /// Its backend.
    pub backend: Option<&'a BackendSpec>,
    /// Whether it may reach the host.
    pub allow_dangerous: bool,
}

/// What QEMU reported about the VM and the driver.
#[derive(Debug, Clone, Copy)]
pub struct VmDevices<'a> {
    /// The VM.
    pub vm: &'a VmEntry,
    /// The properties of the driver; `None` if they cannot be queried.
    pub properties: Option<&'a DeviceProperties>,
    /// The devices with an id.
    pub plugged: &'a [PluggedDevice],
    /// The devices the VM was started with.
    pub boot: &'a BootDevices,
    /// The port for the device.
    pub port: &'a FreePort,
}

/// Returns whether the devices of a driver are on a PCI bus, as far as its name tells.
pub fn is_pci_by_name(driver: &str) -> bool {
    const CARDS: [&str; 8] = ["nvme", "e1000", "e1000e", "igb", "rtl8139", "vmxnet3", "pcnet", "ne2k_pci"];
    // QEMU accepts `virtio-blk` for `virtio-blk-pci`; `virtio-blk-device` is on a bus of its own.
    let is_virtio = driver.starts_with("virtio-") && !driver.ends_with("-device") && !driver.ends_with("-ccw");
    driver.ends_with("-pci") || is_virtio || CARDS.contains(&driver)
}

/// The port that a hot-plugged device can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FreePort {
    /// It needs none: it is not a PCI device, or the machine's own bus takes it.
    NotNeeded,
    /// This one.
    Bus(String),
    /// All ports are in use; this is their number.
    None(usize),
}

/// How to plug in a device.
#[derive(Debug, Clone, PartialEq)]
pub struct DevicePlan {
    /// The driver, by the name in QEMU's list.
    pub driver: String,
    /// The id of the device.
    pub id: DeviceId,
    /// The backend, which is created first.
    pub backend: Option<BackendSpec>,
    /// The command that plugs in the device.
    pub command: QmpCommand,
}

impl DeviceRequest<'_> {
    /// Returns the driver by the name in `known`, QEMU's list.
    pub fn find_driver<'k>(&self, known: &'k [String]) -> Result<&'k str, DeviceError> {
        find_driver(self.driver, known).ok_or_else(|| driver_not_found(self.driver, known))
    }

    /// Returns whether the user chose the bus.
    pub fn has_bus(&self) -> bool {
        self.properties.iter().any(|property| property.starts_with("bus="))
    }
}

/// Decides how to plug in a device with `driver`, a name of QEMU's list.
pub fn plan_device_add(
    request: &DeviceRequest<'_>,
    driver: &str,
    devices: &VmDevices<'_>,
) -> Result<DevicePlan, DeviceError> {
    let (mut values, id) = parse_properties(driver, request.properties, request.id.cloned(), devices.properties)?;
    let id = choose_id(driver, id, devices)?;
    if !values.contains_key("bus") {
        match devices.port {
            FreePort::NotNeeded => {}
            FreePort::Bus(bus) => drop(values.insert("bus".to_owned(), json!(bus))),
            FreePort::None(ports) => return Err(port_unavailable(driver, *ports, devices)),
        }
    }
    let has = |name: &str| devices.properties.is_some_and(|known| known.has(name));
    if let Some(backend) = request.backend {
        let property = backend.property();
        // QEMU itself refuses a driver whose properties are not known.
        if devices.properties.is_some() && !has(property) {
            return Err(DeviceError::BackendInvalid { driver: driver.to_owned(), backend: backend.kind() });
        }
        if values.insert(property.to_owned(), json!(backend.reference(&id.backend_name()))).is_some() {
            return Err(DeviceError::ArgumentConflict { arguments: "a backend and a property that names another one" });
        }
        // An NVMe controller requires a serial number.
        if driver == "nvme" {
            values.entry("serial").or_insert_with(|| json!(id));
        }
    }
    // QEMU gives the first card of every VM the same address.
    let is_card = match devices.properties {
        Some(_) => has("netdev") && has("mac"),
        None => matches!(request.backend, Some(BackendSpec::Network(_))),
    };
    if is_card {
        let mac = || json!(MacAddress::for_hotplugged(&devices.vm.id.bytes(), id.as_str()).to_string());
        values.entry("mac").or_insert_with(mac);
    }
    let command = QmpCommand { execute: "device_add".to_owned(), arguments: values };
    let command = command.with("driver", driver).with("id", id.as_str());
    check_host_access(&command, request.allow_dangerous)?;
    Ok(DevicePlan { driver: driver.to_owned(), id, backend: request.backend.cloned(), command })
}

/// Returns `id` if nothing uses it, or chooses one.
///
/// Names of the definition stay reserved after their device was removed, so that `device-del` is not ambiguous.
fn choose_id(driver: &str, id: Option<DeviceId>, devices: &VmDevices<'_>) -> Result<DeviceId, DeviceError> {
    let plugged = || devices.plugged.iter().map(|device| device.id.as_str());
    let Some(id) = id else {
        let used: Vec<String> = plugged().chain(devices.boot.names()).map(str::to_owned).collect();
        return Ok(DeviceId::unused(driver, &used));
    };
    let vm = || devices.vm.name.clone();
    if plugged().any(|used| used == id.as_str()) {
        return Err(DeviceError::IdExists { vm: vm(), id: id.to_string() });
    }
    if devices.boot.names().any(|name| name == id.as_str()) {
        return Err(DeviceError::IdOfDefinition { vm: vm(), id: id.to_string() });
    }
    Ok(id)
}

fn port_unavailable(driver: &str, ports: usize, devices: &VmDevices<'_>) -> DeviceError {
    let reason = match ports {
        0 => "it was started with none".to_owned(),
        1 => "its only one is in use".to_owned(),
        ports => format!("all {ports} are in use"),
    };
    DeviceError::PortUnavailable { vm: devices.vm.name.clone(), driver: driver.to_owned(), reason }
}

impl BackendSpec {
    /// Returns what the device names: the node or network backend `name`, or the drive that limits it.
    fn reference(&self, name: &str) -> String {
        match self {
            Self::Disk { limits, .. } if !limits.is_unlimited() => limited_drive_id(name),
            Self::Disk { .. } | Self::Network(_) => name.to_owned(),
        }
    }

    /// Returns the property of the device that names the backend.
    const fn property(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "drive",
            Self::Network(_) => "netdev",
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "file",
            Self::Network(_) => "network backend",
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Value;

    use super::*;
    use crate::Explain;
    use crate::vm::Revision;

    fn entry() -> VmEntry {
        VmEntry {
            id: "00000001-0000-4000-8000-000000000001".parse().unwrap(),
            name: "web".parse().unwrap(),
            revision: Revision::FIRST,
            created_at: Timestamp::UNIX_EPOCH,
            run: None,
            pending: None,
            layers: Vec::new(),
        }
    }

    fn properties(names: &[&str]) -> DeviceProperties {
        let names: Value = names.iter().map(|name| json!({"name": name, "type": "str"})).collect();
        DeviceProperties::from_reply(&names).unwrap()
    }

    fn disk() -> BackendSpec {
        BackendSpec::Disk {
            file: "/d.raw".into(),
            format: "raw".to_owned(),
            read_only: false,
            limits: DriveLimits::default(),
        }
    }

    /// Plans `virtio-blk-pci` beside a device `d1`, a device `hdd` of the definition, and with `port`.
    fn plan(args: &[&str], backend: Option<&BackendSpec>, port: &FreePort) -> Result<Value, DeviceError> {
        let properties = properties(&["drive", "serial"]);
        let plugged = [PluggedDevice { id: "d1".to_owned(), driver: "e1000".to_owned() }];
        let boot = BootDevices::from_args(&["-device", "scsi-hd,id=hdd"].map(str::to_owned));
        let devices = VmDevices { vm: &entry(), properties: Some(&properties), plugged: &plugged, boot: &boot, port };
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let request =
            DeviceRequest { driver: "virtio-blk", properties: &args, id: None, backend, allow_dangerous: false };
        plan_device_add(&request, "virtio-blk-pci", &devices).map(|plan| Value::Object(plan.command.arguments))
    }

    #[track_caller]
    fn refused(args: &[&str], backend: Option<&BackendSpec>, port: &FreePort, code: &str) {
        let error = plan(args, backend, port).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }

    #[test]
    fn test_plan_device_add_chooses_id_port_and_backend() {
        let planned = plan(&["serial=A"], Some(&disk()), &FreePort::Bus("rp0".to_owned())).unwrap();

        let expected = json!({"serial": "A", "bus": "rp0", "drive": "hotplug-virtio-blk-0",
            "driver": "virtio-blk-pci", "id": "virtio-blk-0"});
        assert_eq!(planned, expected);
    }

    #[test]
    fn test_plan_device_add_bus_of_user_needs_no_port() {
        let planned = plan(&["bus=mine", "id=x"], None, &FreePort::None(0)).unwrap();

        assert_eq!((&planned["bus"], &planned["id"]), (&json!("mine"), &json!("x")));
    }

    #[test]
    fn test_plan_device_add_refuses_conflicts() {
        refused(&["id=d1"], None, &FreePort::NotNeeded, "device.id-exists");
        refused(&["id=hdd"], None, &FreePort::NotNeeded, "device.id-exists");
        refused(&["id=a", "id=b"], None, &FreePort::NotNeeded, "device.argument-conflict");
        refused(&["driver=x"], None, &FreePort::NotNeeded, "device.argument-conflict");
        refused(&["drive=x"], Some(&disk()), &FreePort::NotNeeded, "device.argument-conflict");
        refused(&[], None, &FreePort::None(2), "device.port-unavailable");
    }

    #[test]
    fn test_plan_device_add_backend_needs_property() {
        let netdev = BackendSpec::Network("user".parse().unwrap());

        refused(&[], Some(&netdev), &FreePort::NotNeeded, "device.backend-invalid");
    }
}
