//! The names in what QEMU prints for `-machine help`, `-cpu help` and `-device help`.

use super::exit_messages::NameList;

/// Returns the names of a list (7.2, 10.0, `softmmu/vl.c`, `target/*/cpu.c`, `softmmu/qdev-monitor.c`).
pub fn listed_names(list: NameList, printed: &str) -> Vec<String> {
    let lines = printed.lines();
    let names: Vec<&str> = match list {
        // `q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)`
        NameList::Machine => lines.skip(1).filter_map(|line| line.split_whitespace().next()).collect(),
        // `x86 Skylake-Client  (alias …)` (7.2), `  Skylake-Client  (alias …)`, then flags after an empty line.
        NameList::Cpu => lines.skip(1).take_while(|line| !line.is_empty()).filter_map(cpu_model).collect(),
        // `name "ich9-ahci", bus PCI, alias "ahci"`
        NameList::Device => {
            lines.flat_map(|line| [quoted(line, "name \""), quoted(line, "alias \"")]).flatten().collect()
        }
    };
    names.into_iter().map(str::to_owned).collect()
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
}
