//! The names of QEMU that one that it does not have can stand for.

use super::help::ListedName;
use crate::text::similar;

/// The category of network cards in `-device help`.
const NETWORK: &str = "Network devices";

/// Returns the names that resemble one that QEMU does not have, the best first; of a card, only those of cards.
pub fn near_names(wanted: &str, listed: &[ListedName], is_card: bool) -> Vec<String> {
    let fits = |one: &&ListedName| !is_card || one.group.as_deref() == Some(NETWORK);
    similar(wanted, listed.iter().filter(fits).map(|one| one.name.as_str()))
}

/// Returns the machine types that one that QEMU does not have can stand for, the best first.
///
/// Another version of a type, as that of a newer QEMU or of a distribution (`pc-q35-rhel9.0.0`), stands for the newest one
/// and the name that always means it (`q35`).
pub fn near_machine_types(wanted: &str, listed: &[ListedName]) -> Vec<String> {
    let newest = newest_of_families(listed);
    let is_family =
        |family: &str| wanted.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    let of_family = newest.iter().filter(|(family, ..)| is_family(family)).max_by_key(|(family, ..)| family.len());
    if let Some((_, _, name)) = of_family {
        let alias = listed.iter().find(|one| one.group.as_deref() == Some(name));
        return alias.map(|alias| alias.name.clone()).into_iter().chain([(*name).to_owned()]).collect();
    }
    let without_version = listed.iter().map(|one| one.name.as_str()).filter(|name| version_of(name).is_none());
    similar(wanted, without_version.chain(newest.iter().map(|(_, _, name)| *name)))
}

/// Returns the machine type that QEMU uses where none is given, by its shorter name if it has one.
pub fn default_machine_type(listed: &[ListedName]) -> Option<&str> {
    let default = listed.iter().find(|one| one.is_default)?;
    let alias = listed.iter().find(|one| one.group.as_deref() == Some(default.name.as_str()));
    Some(&alias.unwrap_or(default).name)
}

/// Returns the architectures that have a machine type, if it is a well-known one, and the QEMU with the list is of none.
pub fn other_architectures_of(machine_type: &str, listed: &[ListedName]) -> &'static [&'static str] {
    let architectures = architectures_of(machine_type);
    if listed.iter().any(|own| architectures_of(&own.name) == architectures) { &[] } else { architectures }
}

pub(crate) fn architectures_of(machine_type: &str) -> &'static [&'static str] {
    let family = version_of(machine_type).map_or(machine_type, |(family, _)| family);
    match family {
        "virt" => &["aarch64", "riscv64"],
        "sbsa-ref" | "raspi3b" | "raspi4b" => &["aarch64"],
        "pc" | "q35" | "pc-q35" | "pc-i440fx" | "microvm" => &["x86_64"],
        "sifive_u" | "spike" => &["riscv64"],
        "pseries" | "powernv" => &["ppc64"],
        "s390-ccw-virtio" => &["s390x"],
        _ => &[],
    }
}

/// Returns each family of machine types with its newest version.
fn newest_of_families(listed: &[ListedName]) -> Vec<(&str, Vec<u32>, &str)> {
    let mut newest: Vec<(&str, Vec<u32>, &str)> = Vec::new();
    for one in listed {
        let Some((family, version)) = version_of(&one.name) else { continue };
        match newest.iter_mut().find(|(known, ..)| *known == family) {
            Some(known) if known.1 < version => *known = (family, version, &one.name),
            Some(_) => {}
            None => newest.push((family, version, &one.name)),
        }
    }
    newest
}

/// Divides a name such as `pc-q35-7.2` into the family and the version.
fn version_of(name: &str) -> Option<(&str, Vec<u32>)> {
    let (family, version) = name.rsplit_once('-')?;
    let numbers: Option<Vec<u32>> = version.split('.').map(|number| number.parse().ok()).collect();
    Some((family, numbers.filter(|numbers| numbers.len() > 1)?))
}

#[cfg(test)]
mod tests {
    use super::super::exit_messages::NameList;
    use super::super::help::listed_names;
    use super::*;

    const MACHINES: &str = "Supported machines are:
microvm              microvm (i386)
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-10.0)
pc-i440fx-10.0       Standard PC (i440FX + PIIX, 1996) (default)
pc-i440fx-9.2        Standard PC (i440FX + PIIX, 1996)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-10.0)
pc-q35-9.2           Standard PC (Q35 + ICH9, 2009)
pc-q35-10.0          Standard PC (Q35 + ICH9, 2009)
pc-q35-2.4           Standard PC (Q35 + ICH9, 2009)
isapc                ISA-only PC
none                 empty machine
";

    #[test]
    fn test_near_machine_types_prefer_the_alias_and_the_newest() {
        let listed = listed_names(NameList::Machine, MACHINES);

        for (wanted, expected) in [
            ("q53", &["q35"][..]),
            ("pc-q35", &["q35", "pc-q35-10.0"]),
            ("pc-q35-rhel9.0.0", &["q35", "pc-q35-10.0"]),
            ("pc-q35-11.0", &["q35", "pc-q35-10.0"]),
            ("pc-i440fx-noble", &["pc", "pc-i440fx-10.0"]),
            ("mircovm", &["microvm"]),
            ("virt", &[]),
        ] {
            assert_eq!(near_machine_types(wanted, &listed), expected, "{wanted}");
        }
        assert_eq!(default_machine_type(&listed), Some("pc"));
        assert_eq!(default_machine_type(&listed[4..]), None);
    }

    #[test]
    fn test_near_names_of_a_card_are_those_of_cards() {
        let printed = "Network devices:\nname \"e1000\"\nname \"virtio-net-pci\", alias \"virtio-net\"\n\nStorage devices:\n\
                       name \"virtio-9p\"\nname \"virtio-blk\"\n";
        let listed = listed_names(NameList::Device, printed);

        assert_eq!(near_names("virtio", &listed, true), ["virtio-net", "virtio-net-pci"]);
        assert_eq!(near_names("virtio", &listed, false), ["virtio-9p", "virtio-blk", "virtio-net"]);
    }

    #[test]
    fn test_other_architectures_are_those_that_have_the_machine_type() {
        let listed = listed_names(NameList::Machine, MACHINES);

        assert_eq!(other_architectures_of("virt-9.0", &listed), ["aarch64", "riscv64"]);
        assert_eq!(other_architectures_of("q35", &listed[..1]), [""; 0]);
        assert_eq!(other_architectures_of("q35", &[]), ["x86_64"]);
        assert_eq!(other_architectures_of("pc-q35-11.0", &listed), [""; 0]);
        assert_eq!(other_architectures_of("pigeon", &listed), [""; 0]);
    }
}
