//! The names in what QEMU prints for `-machine help`, `-cpu help` and `-device help`.

use super::exit_messages::NameList;

/// A name in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedName {
    /// The name.
    pub name: String,
    /// What it is listed under: the machine type that it is another name of, or the category of a device.
    pub group: Option<String>,
    /// Whether QEMU uses it where none is given.
    pub is_default: bool,
}

impl ListedName {
    fn new(name: &str, group: Option<&str>) -> Self {
        Self { name: name.to_owned(), group: group.map(str::to_owned), is_default: false }
    }
}

/// Returns the names of a list (7.2, 10.0, `softmmu/vl.c`, `target/*/cpu.c`, `softmmu/qdev-monitor.c`).
pub fn listed_names(list: NameList, printed: &str) -> Vec<ListedName> {
    let lines = printed.lines();
    match list {
        NameList::Machine => lines.skip(1).filter_map(machine_type).collect(),
        // `x86 Skylake-Client  (alias …)` (7.2), `  Skylake-Client  (alias …)`, then flags after an empty line.
        NameList::Cpu => {
            let models = lines.skip(1).take_while(|line| !line.is_empty()).filter_map(cpu_model);
            models.map(|name| ListedName::new(name, None)).collect()
        }
        NameList::Device => devices(lines),
    }
}

/// Reads `q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)`.
fn machine_type(line: &str) -> Option<ListedName> {
    let group = line.split_once("(alias of ").and_then(|(_, rest)| rest.split(')').next());
    let name = line.split_whitespace().next()?;
    Some(ListedName { is_default: line.contains("(default)"), ..ListedName::new(name, group) })
}

/// Reads `Storage devices:`, then `name "ich9-ahci", bus PCI, alias "ahci"` for each.
fn devices<'t>(lines: impl Iterator<Item = &'t str>) -> Vec<ListedName> {
    let mut group = None;
    let mut names = Vec::new();
    for line in lines {
        group = line.strip_suffix(':').or(group);
        let found = [quoted(line, "name \""), quoted(line, "alias \"")];
        names.extend(found.into_iter().flatten().map(|name| ListedName::new(name, group)));
    }
    names
}

fn cpu_model(line: &str) -> Option<&str> {
    line.strip_prefix("x86 ").unwrap_or(line).split_whitespace().next()
}

fn quoted<'t>(line: &'t str, before: &str) -> Option<&'t str> {
    line.split_once(before)?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed_names(list: NameList, printed: &str) -> Vec<String> {
        super::listed_names(list, printed).into_iter().map(|listed| listed.name).collect()
    }

    #[test]
    fn test_listed_names_machine_types_include_aliases() {
        let printed =
            "Supported machines are:\nmicrovm              microvm (i386)\npc                   Standard PC\n";

        assert_eq!(listed_names(NameList::Machine, printed), ["microvm", "pc"]);
    }

    #[test]
    fn test_listed_names_cpu_models_end_before_flags() {
        let older = "Available CPUs:\nx86 486                   (alias)\nx86 max                   Enables\n\nRecognized:\n  a b";
        let newer = "Available CPUs:\n  486                   (alias)\n  max\n\nRecognized CPUID flags:\n  a b\n";

        assert_eq!(listed_names(NameList::Cpu, older), ["486", "max"]);
        assert_eq!(listed_names(NameList::Cpu, newer), ["486", "max"]);
    }

    #[test]
    fn test_listed_names_devices_include_aliases() {
        let printed = "Storage devices:\nname \"ich9-ahci\", bus PCI, alias \"ahci\"\nname \"nand\"\n\n";

        assert_eq!(listed_names(NameList::Device, printed), ["ich9-ahci", "ahci", "nand"]);
    }
    #[test]
    fn test_listed_names_have_what_they_are_listed_under() {
        let machines = "Supported machines are:\npc                   Standard PC (alias of pc-i440fx-7.2)\n\
                        pc-i440fx-7.2        Standard PC (i440FX) (default)\n";
        let devices = "Network devices:\nname \"e1000\", bus PCI, alias \"e1000-82540em\"\n\nInput devices:\nname \"usb-mouse\"\n";
        let shown = |list, printed| {
            let listed = super::listed_names(list, printed).into_iter();
            listed.map(|one| format!("{} {} {}", one.name, one.group.unwrap_or_default(), one.is_default)).collect()
        };

        let machines: Vec<String> = shown(NameList::Machine, machines);
        let devices: Vec<String> = shown(NameList::Device, devices);

        assert_eq!(machines, ["pc pc-i440fx-7.2 false", "pc-i440fx-7.2  true"]);
        assert_eq!(
            devices,
            ["e1000 Network devices false", "e1000-82540em Network devices false", "usb-mouse Input devices false"]
        );
    }
}
