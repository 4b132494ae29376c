//! The slots of a machine's bus, and the spare ports of a `q35` for hot-plugged devices.

use super::bus::Bus;
use super::{Machine, defaults};
use crate::config::{Diagnostics, KeyPath, Node};
use crate::network::NetworkMode;
use crate::qemu::{OptionString, Switch};
use crate::storage::{Interface, StorageSpec};

/// The prefix of the ports' ids; a number from 0 follows.
pub const PORT_PREFIX: &str = "hotplug-port";

/// The limit of ports: a slot of the bus has eight functions.
pub const MAX_PORTS: u8 = 8;

/// The slot of the ports: the one that has the root ports on Intel's board.
const SLOT: u8 = 0x1c;

/// The chassis number of the first port; chassis numbers are unique, and users start with low ones.
const FIRST_CHASSIS: u8 = 241;

/// With more devices than this, the ports are left out unless requested, and so is the default source of random numbers.
///
/// The bus of a `pc` or `q35` has 28 free slots (7.2, 10.0). Some are left for what is not counted, such as `-machine usb=on`.
const MAX_DEVICES: usize = 24;

/// The slots of a `microvm`, and those without its second interrupt controller (7.2, 10.0).
const MMIO_SLOTS: [usize; 2] = [24, 8];

/// How many slots the default devices take.
const DEFAULT_DEVICES: usize = 2;

/// Switches that add a device to the bus themselves.
const DEVICE_SWITCHES: [&str; 4] = ["audio", "nic", "usb", "virtfs"];

impl Machine {
    /// Returns the number of spare ports.
    ///
    /// Only `q35` needs them, because its root bus does not support hot-plugging. Unless requested, they give way to
    /// devices that need their slot.
    pub fn spare_ports(&self) -> u8 {
        match self.hotplug_ports {
            _ if !self.is_q35() => 0,
            Some(ports) => ports,
            None if self.takes_slot() || self.bus_devices() > MAX_DEVICES => 0,
            None => defaults::HOTPLUG_PORTS,
        }
    }

    /// Returns the switches of the ports.
    pub(crate) fn port_switches(&self) -> Vec<Switch> {
        let ports = self.spare_ports();
        let port = |number: u8| {
            let port = Switch::new("device").head("pcie-root-port").option("id", format!("{PORT_PREFIX}{number}"));
            let port = port.option("bus", "pcie.0").option("addr", format!("{SLOT:x}.{number}"));
            let port = if number == 0 && ports > 1 { port.flag("multifunction", true) } else { port };
            port.option("chassis", FIRST_CHASSIS.saturating_add(number).to_string())
        };
        (0..ports).map(port).collect()
    }

    /// Returns whether a device of the user is in the slot of the ports.
    fn takes_slot(&self) -> bool {
        let address = |text: &str| {
            let slot = text.split('.').next().unwrap_or_default();
            u8::from_str_radix(slot.strip_prefix("0x").unwrap_or(slot), 16).ok()
        };
        let is_in_slot = |text| OptionString::parse("device", text).get("addr").and_then(address) == Some(SLOT);
        self.device_texts().any(is_in_slot)
    }

    /// Returns whether the default devices, random numbers and the channels to the guest, find slots of the bus.
    pub(super) fn has_free_slot(&self, bus: Bus) -> bool {
        let is_off = |argument| OptionString::parse("machine", argument).is_on("ioapic2") == Some(false);
        let has_second = !self.machine_arguments().any(is_off);
        let max = match bus {
            Bus::Mmio => MMIO_SLOTS[usize::from(!has_second)] - DEFAULT_DEVICES,
            Bus::Pci | Bus::Ccw => MAX_DEVICES,
        };
        self.bus_devices() <= max
    }

    /// Returns the number of devices that may be on the root bus, without the default ones.
    fn bus_devices(&self) -> usize {
        let mut controllers: Vec<_> =
            self.storage.iter().filter_map(|storage| Some((storage.interface, storage.controller_id()?))).collect();
        controllers.sort_unstable_by_key(|(_, id)| *id);
        controllers.dedup();
        let has_slot = |storage: &&StorageSpec| {
            let is_share = storage.driver.image_format().is_none();
            is_share || matches!(storage.interface, Interface::Virtio | Interface::Nvme)
        };
        let drives = self.storage.iter().filter(has_slot).count();
        let cards = self.network.iter().filter(|card| card.mode != NetworkMode::None).count();
        let raw = self.user_switches().filter(|(name, argument)| adds_device(name, argument.unwrap_or_default()));
        let own = self.device_texts().filter(|text| is_on_root_bus(text)).count();
        controllers.len() + drives + cards + raw.count() + own + self.devices.slots() + usize::from(self.seed.is_some())
    }

    /// Returns the arguments of the user's `-device` switches.
    pub(super) fn device_texts(&self) -> impl Iterator<Item = &str> {
        let of_keys = self.switches.iter().filter(|switch| switch.name() == "device").filter_map(Switch::argument);
        of_keys.chain(self.user_arguments("device"))
    }

    /// Reports requested ports of a machine type that does not need any.
    pub(super) fn check_ports(&self, definition: &Node, report: &mut Diagnostics) {
        if let Some(1..) = self.hotplug_ports
            && !self.is_q35()
            && let Some(node) = definition.get("hotplug_ports")
        {
            let help = Some("remove it, or set `machine: q35`".to_owned());
            let message = "only `q35` machines have spare ports; others do not need them";
            report.error_with_help(&KeyPath::top("hotplug_ports"), node, message, help);
        }
    }
}

/// Returns whether a switch of the user other than `-device` adds a device to the root bus.
fn adds_device(name: &str, argument: &str) -> bool {
    let options = || OptionString::parse(name, argument);
    match name {
        "drive" => options().get("if").is_some_and(|interface| ["virtio", "scsi"].contains(&interface)),
        "net" => options().head() == "nic",
        "nic" => options().head() != "none",
        name => DEVICE_SWITCHES.contains(&name),
    }
}

/// Returns whether a device may be on the root bus: unless it names another one.
fn is_on_root_bus(device: &str) -> bool {
    OptionString::parse("device", device).get("bus").is_none_or(|bus| bus.starts_with("pci"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::builtin_handlers;
    use crate::storage::builtin_drivers;

    fn read(definition: &str) -> (Machine, usize) {
        let handlers = builtin_handlers(&builtin_drivers().unwrap()).unwrap();
        let (machine, problems) = Machine::read(&serde_json::from_str(definition).unwrap(), &handlers);
        (machine, problems.len())
    }

    #[track_caller]
    fn check(definition: &str, ports: u8) {
        assert_eq!((read(definition).0.spare_ports(), read(definition).1), (ports, 0), "{definition}");
    }

    #[test]
    fn test_spare_ports_only_q35_has_them() {
        check(r#"{"machine": "q35"}"#, defaults::HOTPLUG_PORTS);
        check(r#"{"machine": "pc-q35-7.2", "hotplug_ports": 8}"#, 8);
        check(r#"{"machine": "q35", "hotplug_ports": 0}"#, 0);
        check(r#"{"machine": "pc", "hotplug_ports": 0}"#, 0);
        check("{}", 0);
    }

    #[test]
    fn test_spare_ports_give_way_to_devices_unless_requested() {
        check(r#"{"machine": "q35", "arguments": [{"device": "e1000,addr=0x1c"}]}"#, 0);
        check(r#"{"machine": "q35", "args": ["-device", "e1000,addr=1c.3"]}"#, 0);
        check(r#"{"machine": "q35", "args": ["-device", "e1000,addr=1b"]}"#, defaults::HOTPLUG_PORTS);
        check(r#"{"machine": "q35", "hotplug_ports": 2, "args": ["-device", "e1000,addr=1c.3"]}"#, 2);
        let drives: Vec<String> = (0..25).map(|number| format!(r#"{{"name": "d{number}"}}"#)).collect();
        check(&format!(r#"{{"machine": "q35", "storage": [{}]}}"#, drives.join(",")), 0);
    }

    #[test]
    fn test_spare_ports_without_q35_or_too_many_is_an_error() {
        for definition in [r#"{"hotplug_ports": 1}"#, r#"{"machine": "q35", "hotplug_ports": 9}"#] {
            assert_eq!(read(definition).1, 1, "{definition}");
        }
    }

    #[test]
    fn test_port_switches_are_functions_of_one_slot() {
        let (machine, _) = read(r#"{"machine": "q35", "hotplug_ports": 2}"#);

        let switches = machine.port_switches();
        let arguments: Vec<&str> = switches.iter().filter_map(Switch::argument).collect();

        let expected = [
            "pcie-root-port,id=hotplug-port0,bus=pcie.0,addr=1c.0,multifunction=on,chassis=241",
            "pcie-root-port,id=hotplug-port1,bus=pcie.0,addr=1c.1,chassis=242",
        ];
        assert_eq!(arguments, expected);
    }
}
