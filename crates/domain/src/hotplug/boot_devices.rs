//! The devices a VM was started with, according to the command line of its QEMU.
//!
//! The definition may have changed since, and hot-plugged devices are not included.

use super::backend_name;
use crate::guest::CONTROLLER;
use crate::machine::{GENERATION_ID, PORT_PREFIX, USB_CONTROLLER};
use crate::network::card_of;
use crate::qemu::{LIMITS_PREFIX, NodeName, OptionString, switch_values};

/// The devices a VM was started with, and their backends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootDevices {
    options: Vec<BootOption>,
}

/// An option that creates a device or a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BootOption {
    switch: String,
    values: OptionString,
}

/// The backend of a device, which is removed after the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The name of the whole.
    pub name: String,
    /// Its block nodes, each before the one below it.
    pub nodes: Vec<String>,
    /// Its network backend.
    pub netdev: Option<String>,
}

impl BootDevices {
    /// Parses the command line of a QEMU.
    pub fn from_args(args: &[String]) -> Self {
        let is_relevant = |switch: &str| ["device", "blockdev", "drive", "netdev"].contains(&switch);
        let option = |(switch, argument): (&str, &str)| BootOption {
            switch: switch.to_owned(),
            values: OptionString::parse(switch, argument),
        };
        Self { options: switch_values(args).filter(|(switch, _)| is_relevant(switch)).map(option).collect() }
    }

    /// Returns whether there is a device with this id.
    pub fn has_device(&self, id: &str) -> bool {
        self.has("device", &[("id", id)])
    }

    /// Returns the names of devices, block nodes and network backends.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.options.iter().flat_map(BootOption::names)
    }

    /// Returns the block nodes above this one, at any height.
    pub fn nodes_above(&self, node: &str) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        let mut next = vec![node];
        while let Some(below) = next.pop() {
            let options = self.options.iter().filter(|option| option.switch == "blockdev" && option.is_above(below));
            let above = options.filter_map(|option| option.get("node-name"));
            let above: Vec<&str> = above.filter(|name| *name != node && !found.contains(name)).collect();
            found.extend(&above);
            next.extend(above);
        }
        found
    }

    /// Returns whether this is a bus that maqet created for other devices.
    pub fn is_bus(&self, id: &str) -> bool {
        let is_own = id.starts_with(PORT_PREFIX)
            || [USB_CONTROLLER, CONTROLLER].contains(&id)
            || NodeName::CONTROLLERS.contains(&id);
        self.has_device(id) && is_own
    }

    /// Returns whether this is a channel to the guest.
    pub fn is_channel(&self, id: &str) -> bool {
        self.has("device", &[("id", id), ("bus", &format!("{CONTROLLER}.0"))])
    }

    /// Returns why a device of maqet stays as long as QEMU runs, in words that follow a colon.
    pub(super) fn obstacle(&self, id: &str) -> Option<&'static str> {
        match id {
            id if self.is_bus(id) => Some("other devices are connected to it"),
            id if self.is_channel(id) => Some("maqet reaches the guest by it"),
            GENERATION_ID => Some("it belongs to the machine"),
            _ => None,
        }
    }

    /// Returns the device of the card with this name under `network`.
    ///
    /// A device with this id takes precedence, even after it was removed.
    pub fn device_of_card(&self, name: &str) -> Option<String> {
        Some(card_of(name)).filter(|device| self.card(device) == Some(name) && !self.has_device(name))
    }

    /// Returns the name of a device in the definition, else its id.
    pub fn name_of<'a>(&'a self, device: &'a str) -> &'a str {
        self.card(device).filter(|name| !self.has_device(name)).unwrap_or(device)
    }

    /// Returns the backends that a device may have: that of `device-add`, and those created at the start.
    ///
    /// A drive without a device, as with `interface: none`, is not a backend.
    pub fn backends(&self, device: &str) -> Vec<Backend> {
        let plugged = backend_name(device);
        let mut all = vec![Backend { nodes: vec![plugged.clone()], netdev: Some(plugged.clone()), name: plugged }];
        if self.is_drive(device) {
            let nodes = vec![device.to_owned(), file_node(device)];
            all.push(Backend { name: device.to_owned(), nodes, netdev: None });
        }
        if let Some(card) = self.card(device) {
            all.push(Backend { name: card.to_owned(), nodes: Vec::new(), netdev: Some(card.to_owned()) });
        }
        all
    }

    fn is_drive(&self, name: &str) -> bool {
        let file = file_node(name);
        let limited = format!("{LIMITS_PREFIX}{name}");
        let is_of_nodes = || {
            self.has("device", &[("id", name), ("drive", name)])
                && self.has("blockdev", &[("node-name", name), ("file", &file)])
                && self.has("blockdev", &[("node-name", &file)])
        };
        // QEMU removes this one with its device, unless a job uses it.
        let is_limited = || {
            self.has("device", &[("id", name), ("drive", &limited)])
                && self.has("drive", &[("id", &limited), ("node-name", name)])
        };
        is_of_nodes() || is_limited()
    }

    /// Returns the name of the card of this device.
    fn card(&self, device: &str) -> Option<&str> {
        let is_it = |option: &&BootOption| option.switch == "device" && option.get("id") == Some(device);
        self.options
            .iter()
            .find(is_it)?
            .get("netdev")
            .filter(|name| card_of(name) == device && self.has("netdev", &[("id", name)]))
    }

    fn has(&self, switch: &str, values: &[(&str, &str)]) -> bool {
        let has_values = |option: &BootOption| values.iter().all(|(key, value)| option.get(key) == Some(*value));
        self.options.iter().any(|option| option.switch == switch && has_values(option))
    }
}

impl BootOption {
    /// Returns the names of what it creates.
    fn names(&self) -> impl Iterator<Item = &str> {
        let names = |key: &str| match self.switch.as_str() {
            "device" | "netdev" => key == "id",
            // Includes nodes nested in those above them.
            _ => key == "node-name" || key.ends_with(".node-name") || (key == "id" && self.switch == "drive"),
        };
        self.values.iter().filter(move |option| names(&option.key)).map(|option| option.value.as_str())
    }

    /// Returns whether it is a block node directly above this one.
    fn is_above(&self, node: &str) -> bool {
        let is_below = |key: &str| ["file", "backing", "data-file"].contains(&key) || key.ends_with(".node-name");
        self.values.iter().any(|option| is_below(&option.key) && option.value == node)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key)
    }
}

fn file_node(name: &str) -> String {
    format!("{name}-file")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "qemu -device virtio-scsi-pci,id=scsi -device pcie-root-port,id=hotplug-port0 \
        -blockdev driver=file,node-name=hdd-file,filename=/d/a,,node-name=x -blockdev driver=raw,node-name=hdd,file=hdd-file \
        -device scsi-hd,bus=scsi.0,drive=hdd,id=hdd \
        -blockdev driver=file,node-name=spare-file -blockdev driver=raw,node-name=spare,file=spare-file \
        -netdev user,id=lan -device e1000,netdev=lan,id=lan-card --device scsi-hd,drive=spare,id=d1";

    fn boot_devices() -> BootDevices {
        BootDevices::from_args(&LINE.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn backends(device: &str) -> Vec<String> {
        boot_devices().backends(device).into_iter().flat_map(|one| one.nodes.into_iter().chain(one.netdev)).collect()
    }

    #[test]
    fn test_boot_devices_backends_are_those_of_maqet() {
        assert_eq!(backends("hdd"), ["hotplug-hdd", "hotplug-hdd", "hdd", "hdd-file"]);
        assert_eq!(backends("lan-card"), ["hotplug-lan-card", "hotplug-lan-card", "lan"]);
        for other in ["spare", "d1", "lan", "scsi", "nonsense"] {
            assert_eq!(backends(other).len(), 2, "{other}: only that of device-add");
        }
    }

    #[test]
    fn test_boot_devices_drive_with_limits_is_a_backend() {
        let line = "qemu -drive if=none,id=maqet-limits-hdd,driver=raw,node-name=hdd,file.node-name=hdd-file \
            -device scsi-hd,drive=maqet-limits-hdd,id=hdd -device scsi-hd,drive=maqet-limits-hdd,id=other";
        let boot = BootDevices::from_args(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let nodes = |device| boot.backends(device).into_iter().flat_map(|one| one.nodes).collect::<Vec<_>>();

        assert_eq!(nodes("hdd"), ["hotplug-hdd", "hdd", "hdd-file"]);
        assert_eq!(nodes("other"), ["hotplug-other"]);
    }

    #[test]
    fn test_boot_devices_names_include_nodes_and_netdevs() {
        let boot = boot_devices();

        for name in ["hdd", "spare", "lan", "lan-card", "d1", "hdd-file", "scsi"] {
            assert!(boot.names().any(|one| one == name), "{name}");
        }
        assert!(boot.names().all(|one| one != "x") && !boot.has_device("spare"));
        assert_eq!(boot.device_of_card("lan").as_deref(), Some("lan-card"));
        assert_eq!((boot.device_of_card("hdd"), boot.name_of("lan-card")), (None, "lan"));
    }

    #[test]
    fn test_boot_devices_json_form_is_parsed() {
        let args = [
            "-device",
            r#"{"driver": "scsi-hd", "id": "d,1", "drive": "top", "bootindex": 1}"#,
            "-blockdev",
            r#"{"driver": "raw", "node-name": "top", "file": {"driver": "file", "node-name": "inner", "filename": "x"}}"#,
            "-netdev",
            r#"{"type": "user", "id": "net"}"#,
            "-drive",
            "if=none,id=old,file.node-name=older",
            "-device",
            "{not JSON",
        ];

        let boot = BootDevices::from_args(&args.map(str::to_owned));

        let mut names: Vec<&str> = boot.names().collect();
        names.sort_unstable();
        assert_eq!(names, ["d,1", "inner", "net", "old", "older", "top"]);
        assert!(boot.has_device("d,1"));
        assert_eq!(boot.nodes_above("inner"), ["top"]);
    }

    #[test]
    fn test_boot_devices_nodes_above_are_found_once() {
        let line = "qemu -blockdev driver=raw,node-name=b,file=a -blockdev driver=qcow2,node-name=c,file=x,backing=b \
            -blockdev driver=raw,node-name=a,file=c -drive file=a,node-name=d";
        let boot = BootDevices::from_args(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());

        assert_eq!((boot.nodes_above("a"), boot.nodes_above("x")), (vec!["b", "c"], vec!["c", "a", "b"]));
        assert!(boot.nodes_above("d").is_empty());
    }

    #[test]
    fn test_boot_devices_device_id_comes_before_card_name() {
        let line = "qemu -netdev user,id=lan -device e1000,netdev=lan,id=lan-card -device usb-tablet,id=lan";
        let boot = BootDevices::from_args(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());

        assert_eq!((boot.device_of_card("lan"), boot.name_of("lan-card")), (None, "lan-card"));
    }

    #[test]
    fn test_boot_devices_buses_are_those_of_maqet() {
        let all = ["scsi", "hotplug-port0", "sata", "hotplug-port1", "hdd"];

        assert_eq!(all.map(|id| boot_devices().is_bus(id)), [true, true, false, false, false]);
    }
}
