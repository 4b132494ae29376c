//! What a machine was started with, as the words of its QEMU tell.
//!
//! The definition may be another one by now, and what was plugged in or made over the monitor since is not among them.

use serde_json::Value;

use super::backend_name;
use crate::machine::PORT_PREFIX;
use crate::network::card_of;
use crate::qemu::NodeName;

/// The devices a machine was started with, and what is behind them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootDevices {
    parts: Vec<Part>,
}

/// One switch that makes something.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    switch: String,
    options: Vec<(String, String)>,
}

/// What is behind a device, and goes once that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// What it is called as a whole.
    pub name: String,
    /// Its block nodes, each before the one it stands on.
    pub nodes: Vec<String>,
    /// Its network back end.
    pub netdev: Option<String>,
}

impl BootDevices {
    /// Reads the words of a QEMU.
    pub fn from_args(args: &[String]) -> Self {
        let part = |two: &[String]| {
            let switch = two[0].strip_prefix('-')?;
            let switch = switch.strip_prefix('-').unwrap_or(switch);
            let makes = ["device", "blockdev", "drive", "netdev"].contains(&switch);
            makes.then(|| Part { switch: switch.to_owned(), options: options(&two[1]) })
        };
        Self { parts: args.windows(2).filter_map(part).collect() }
    }

    /// Returns whether it has a device of this id.
    pub fn has_device(&self, id: &str) -> bool {
        self.has("device", &[("id", id)])
    }

    /// Returns what its devices, block nodes and network back ends are called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().flat_map(Part::names)
    }

    /// Returns the block nodes that stand on this one, directly or not.
    pub fn nodes_on(&self, node: &str) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        let mut next = vec![node];
        while let Some(below) = next.pop() {
            let parts = self.parts.iter().filter(|part| part.switch == "blockdev" && part.stands_on(below));
            let above = parts.filter_map(|part| part.option("node-name"));
            let above: Vec<&str> = above.filter(|name| *name != node && !found.contains(name)).collect();
            found.extend(&above);
            next.extend(above);
        }
        found
    }

    /// Returns whether other devices sit on this one, which maqet made for them.
    pub fn is_bus(&self, id: &str) -> bool {
        self.has_device(id) && (id.starts_with(PORT_PREFIX) || NodeName::CONTROLLERS.contains(&id))
    }

    /// Returns the device of the card that is called so under `network`.
    ///
    /// Where a device has this very id, the name is that of the device alone, also after it was taken out.
    pub fn device_of_card(&self, name: &str) -> Option<String> {
        Some(card_of(name)).filter(|device| self.card(device) == Some(name) && !self.has_device(name))
    }

    /// Returns what the definition calls a device.
    pub fn name_of<'a>(&'a self, device: &'a str) -> &'a str {
        self.card(device).filter(|name| !self.has_device(name)).unwrap_or(device)
    }

    /// Returns what may be behind a device: what `device-add` makes, and what maqet made at the start.
    ///
    /// A drive without a device of its own, as with `interface: none`, is behind none.
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
        self.has("device", &[("id", name), ("drive", name)])
            && self.has("blockdev", &[("node-name", name), ("file", &file)])
            && self.has("blockdev", &[("node-name", &file)])
    }

    /// Returns the name of the card whose device this is.
    fn card(&self, device: &str) -> Option<&str> {
        let part = self.parts.iter().find(|part| part.switch == "device" && part.option("id") == Some(device))?;
        part.option("netdev").filter(|name| card_of(name) == device && self.has("netdev", &[("id", name)]))
    }

    fn has(&self, switch: &str, options: &[(&str, &str)]) -> bool {
        let fits = |part: &Part| options.iter().all(|(key, value)| part.option(key) == Some(*value));
        self.parts.iter().any(|part| part.switch == switch && fits(part))
    }
}

impl Part {
    /// Returns what it makes, by name.
    fn names(&self) -> impl Iterator<Item = &str> {
        let names = |key: &str| match self.switch.as_str() {
            "device" | "netdev" => key == "id",
            // Also nodes that are written within those that stand on them.
            _ => key == "node-name" || key.ends_with(".node-name") || (key == "id" && self.switch == "drive"),
        };
        self.options.iter().filter(move |(key, _)| names(key)).map(|(_, value)| value.as_str())
    }

    /// Returns whether it is a block node on this one.
    fn stands_on(&self, node: &str) -> bool {
        let is_below = |key: &str| ["file", "backing", "data-file"].contains(&key) || key.ends_with(".node-name");
        self.options.iter().any(|(key, value)| is_below(key) && value == node)
    }

    fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

fn file_node(name: &str) -> String {
    format!("{name}-file")
}

fn options(argument: &str) -> Vec<(String, String)> {
    // As QEMU tells the two forms apart.
    if argument.starts_with('{') {
        let mut options = Vec::new();
        flatten("", &serde_json::from_str(argument).unwrap_or_default(), &mut options);
        return options;
    }
    // Two commas are one of the value; a null byte is in no word of a command line.
    let parted = argument.replace(",,", "\0");
    let pairs = parted.split(',').filter_map(|option| option.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.replace('\0', ","))).collect()
}

/// Writes what is within something with a dot, as QEMU's other form does: `file.driver`.
fn flatten(key: &str, value: &Value, options: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, value, options);
            }
        }
        Value::String(text) => options.push((key.to_owned(), text.clone())),
        // No name and no node is called so.
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "qemu -device virtio-scsi-pci,id=scsi -device pcie-root-port,id=hotplug-port0 \
        -blockdev driver=file,node-name=hdd-file,filename=/d/a,,node-name=x -blockdev driver=raw,node-name=hdd,file=hdd-file \
        -device scsi-hd,bus=scsi.0,drive=hdd,id=hdd \
        -blockdev driver=file,node-name=spare-file -blockdev driver=raw,node-name=spare,file=spare-file \
        -netdev user,id=lan -device e1000,netdev=lan,id=lan-card --device scsi-hd,drive=spare,id=d1";

    fn equipment() -> BootDevices {
        BootDevices::from_args(&LINE.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn behind(device: &str) -> Vec<String> {
        equipment().backends(device).into_iter().flat_map(|one| one.nodes.into_iter().chain(one.netdev)).collect()
    }

    #[test]
    fn test_equipment_back_ends_are_those_of_devices_that_maqet_made() {
        assert_eq!(behind("hdd"), ["hotplug-hdd", "hotplug-hdd", "hdd", "hdd-file"]);
        assert_eq!(behind("lan-card"), ["hotplug-lan-card", "hotplug-lan-card", "lan"]);
        for other in ["spare", "d1", "lan", "scsi", "nonsense"] {
            assert_eq!(behind(other).len(), 2, "{other}: what was plugged in only");
        }
    }

    #[test]
    fn test_equipment_names_are_of_devices_nodes_and_networks() {
        let equipment = equipment();

        for name in ["hdd", "spare", "lan", "lan-card", "d1", "hdd-file", "scsi"] {
            assert!(equipment.names().any(|one| one == name), "{name}");
        }
        assert!(equipment.names().all(|one| one != "x") && !equipment.has_device("spare"));
        assert_eq!(equipment.device_of_card("lan").as_deref(), Some("lan-card"));
        assert_eq!((equipment.device_of_card("hdd"), equipment.name_of("lan-card")), (None, "lan"));
    }

    #[test]
    fn test_equipment_words_in_json_are_read_as_others() {
        let words = [
            "-device",
            r#"{"driver": "scsi-hd", "id": "d,1", "drive": "top", "bootindex": 1}"#,
            "-blockdev",
            r#"{"driver": "raw", "node-name": "top", "file": {"driver": "file", "node-name": "inner", "filename": "x"}}"#,
            "-netdev",
            r#"{"type": "user", "id": "net"}"#,
            "-drive",
            "if=none,id=old,file.node-name=older",
            "-device",
            "{no JSON",
        ];

        let equipment = BootDevices::from_args(&words.map(str::to_owned));

        let mut names: Vec<&str> = equipment.names().collect();
        names.sort_unstable();
        assert_eq!(names, ["d,1", "inner", "net", "old", "older", "top"]);
        assert!(equipment.has_device("d,1"));
        assert_eq!(equipment.nodes_on("inner"), ["top"]);
    }

    #[test]
    fn test_equipment_nodes_on_another_are_found_at_any_height_and_once() {
        let line = "qemu -blockdev driver=raw,node-name=b,file=a -blockdev driver=qcow2,node-name=c,file=x,backing=b \
            -blockdev driver=raw,node-name=a,file=c -drive file=a,node-name=d";
        let equipment = BootDevices::from_args(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());

        assert_eq!((equipment.nodes_on("a"), equipment.nodes_on("x")), (vec!["b", "c"], vec!["c", "a", "b"]));
        assert!(equipment.nodes_on("d").is_empty());
    }

    #[test]
    fn test_equipment_card_that_is_called_as_a_device_is_known_by_the_id_of_its_own() {
        let line = "qemu -netdev user,id=lan -device e1000,netdev=lan,id=lan-card -device usb-tablet,id=lan";
        let equipment = BootDevices::from_args(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());

        assert_eq!((equipment.device_of_card("lan"), equipment.name_of("lan-card")), (None, "lan-card"));
    }

    #[test]
    fn test_equipment_buses_are_those_that_maqet_made() {
        let all = ["scsi", "hotplug-port0", "sata", "hotplug-port1", "hdd"];

        assert_eq!(all.map(|id| equipment().is_bus(id)), [true, true, false, false, false]);
    }
}
