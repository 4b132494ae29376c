//! The bus of a machine that takes optional devices.

use std::path::Path;

use super::Machine;

/// A bus that the machine types with a default device have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bus {
    /// PCI or PCI Express.
    Pci,
    /// Virtio slots in memory, as those of `microvm`.
    Mmio,
    /// The channels of an IBM mainframe.
    Ccw,
}

impl Bus {
    /// Returns the name of the virtio device `kind` on this bus.
    pub(crate) fn virtio(self, kind: &str) -> String {
        match self {
            Self::Pci => format!("virtio-{kind}-pci"),
            Self::Mmio => format!("virtio-{kind}-device"),
            Self::Ccw => format!("virtio-{kind}-ccw"),
        }
    }
}

impl Machine {
    /// Returns the bus for optional devices; `None` if the machine has none, or is of a type that is not known here.
    pub(crate) fn bus(&self, architecture: &str, binary: &Path) -> Option<Bus> {
        match (self.kind_on(architecture), architecture) {
            (Some("microvm"), _) => Some(Bus::Mmio),
            (Some(kind), _) if is_a(kind, &["pc", "q35", "pseries"]) => Some(Bus::Pci),
            (Some(kind), "m68k") if is_a(kind, &["virt"]) => Some(Bus::Mmio),
            (Some(kind), _) if is_a(kind, &["virt"]) => Some(Bus::Pci),
            (Some(kind), _) if is_a(kind, &["s390-ccw-virtio"]) => Some(Bus::Ccw),
            // Debian has a binary for this machine type.
            (None, "x86_64") if binary.as_os_str().to_str().is_some_and(|path| path.ends_with("-microvm")) => {
                Some(Bus::Mmio)
            }
            // QEMU's own default, where it has one (7.2, 10.0).
            (None, "x86_64" | "i386" | "ppc64") => Some(Bus::Pci),
            (None, "s390x") => Some(Bus::Ccw),
            (Some(_) | None, _) => None,
        }
    }

    /// Returns whether the firmware of the machine has the tables of SMBIOS, with strings of ours (7.2, 10.0).
    pub fn has_smbios(&self, architecture: &str) -> bool {
        match (self.kind_on(architecture), architecture) {
            (Some(kind), "x86_64" | "i386") => is_a(kind, &["pc", "q35"]),
            (Some(kind), "aarch64" | "arm") => is_a(kind, &["virt"]),
            (None, architecture) => ["x86_64", "i386"].contains(&architecture),
            (Some(_), _) => false,
        }
    }

    /// Returns whether the machine has the devices of a PC with ISA ports.
    pub(crate) fn is_pc(&self, architecture: &str) -> bool {
        match self.kind_on(architecture) {
            Some(kind) => is_a(kind, &["pc", "q35", "microvm", "isapc"]),
            None => ["x86_64", "i386"].contains(&architecture),
        }
    }
}

impl Machine {
    /// Returns whether the machine has a place for a generation ID: the ACPI tables of a PC, whose firmware tells QEMU the
    /// address (machine types from 2.5 on; QEMU refuses the device on others).
    pub(crate) fn has_generation_id(&self, architecture: &str) -> bool {
        match self.kind_on(architecture) {
            Some(kind) => is_a(kind, &["pc", "q35"]) && !is_before(kind, (2, 5)),
            None => ["x86_64", "i386"].contains(&architecture),
        }
    }
}

/// Returns whether a machine type is of an earlier version of QEMU, as `pc-i440fx-2.4` is.
fn is_before(kind: &str, version: (u32, u32)) -> bool {
    let number = kind.rsplit('-').next().and_then(|last| last.split_once('.'));
    let number = number.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    number.is_some_and(|number: (u32, u32)| number < version)
}

/// Returns whether a machine type is one of these, or a version of it, as `pc-i440fx-7.2`.
fn is_a(kind: &str, families: &[&str]) -> bool {
    let is_version =
        |family: &&str| kind.strip_prefix(*family).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    families.iter().any(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::Switch;

    fn bus(kind: Option<&str>, architecture: &str) -> Option<Bus> {
        let machine_type = kind.map(|kind| Switch::verbatim("machine", kind));
        Machine { machine_type, ..Machine::default() }.bus(architecture, Path::new("/opt/my-qemu"))
    }

    #[test]
    fn test_bus_of_a_machine_type_is_that_of_its_family() {
        for (kind, expected) in [
            ("pc", Some(Bus::Pci)),
            ("pc-i440fx-7.2", Some(Bus::Pci)),
            ("q35,usb=on", Some(Bus::Pci)),
            ("pc-q35-10.0", Some(Bus::Pci)),
            ("microvm", Some(Bus::Mmio)),
            ("isapc", None),
            ("none", None),
            ("virtual", None),
        ] {
            assert_eq!(bus(Some(kind), "x86_64"), expected, "{kind}");
        }
        assert_eq!(bus(Some("virt-9.0"), "aarch64"), Some(Bus::Pci));
        assert_eq!(bus(Some("virt"), "m68k"), Some(Bus::Mmio));
        assert_eq!(bus(Some("raspi3b"), "aarch64"), None);
        assert_eq!(bus(Some("s390-ccw-virtio-8.2"), "s390x"), Some(Bus::Ccw));
    }

    #[test]
    fn test_bus_without_a_machine_type_is_that_of_the_default() {
        for (architecture, expected) in [
            ("x86_64", Some(Bus::Pci)),
            ("i386", Some(Bus::Pci)),
            ("aarch64", Some(Bus::Pci)),
            ("riscv64", Some(Bus::Pci)),
            ("s390x", Some(Bus::Ccw)),
            ("m68k", None),
            ("sparc64", None),
        ] {
            assert_eq!(bus(None, architecture), expected, "{architecture}");
        }
        let of_binary = Machine::default().bus("x86_64", Path::new("/usr/bin/qemu-system-x86_64-microvm"));
        assert_eq!(of_binary, Some(Bus::Mmio));
    }
}
