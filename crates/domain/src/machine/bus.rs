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
    ///
    /// `binary` tells the architecture if the definition does not.
    pub(crate) fn bus(&self, binary: &Path) -> Option<Bus> {
        let architecture = self.guest_architecture(binary);
        // The package of Debian has a binary whose default is `microvm`.
        let is_microvm = architecture == Some("x86_64-microvm");
        match (self.kind(), architecture) {
            (Some("microvm"), _) => Some(Bus::Mmio),
            (Some(kind), _) if is_a(kind, &["pc", "q35", "pseries"]) => Some(Bus::Pci),
            (Some(kind), Some("m68k")) if is_a(kind, &["virt"]) => Some(Bus::Mmio),
            (Some(kind), _) if is_a(kind, &["virt"]) => Some(Bus::Pci),
            (Some(kind), _) if is_a(kind, &["s390-ccw-virtio"]) => Some(Bus::Ccw),
            (None, _) if is_microvm => Some(Bus::Mmio),
            // QEMU's own default, where it has one (7.2, 10.0).
            (None, Some("x86_64" | "i386" | "ppc64" | "loongarch64")) => Some(Bus::Pci),
            (None, Some("s390x")) => Some(Bus::Ccw),
            (Some(_) | None, _) => None,
        }
    }

    /// Returns whether the machine has the devices of a PC with ISA ports.
    pub(crate) fn is_pc(&self, binary: &Path) -> bool {
        match self.kind() {
            Some(kind) => is_a(kind, &["pc", "q35", "microvm", "isapc"]),
            None => self.guest_architecture(binary).is_some_and(|name| name.starts_with("x86_64") || name == "i386"),
        }
    }

    /// Returns the guest's architecture, as in the names of QEMU's binaries.
    fn guest_architecture<'a>(&self, binary: &'a Path) -> Option<&'a str> {
        let by_name = || binary.file_name()?.to_str()?.strip_prefix("qemu-system-");
        match self.arch.or_else(by_name)? {
            "amd64" => Some("x86_64"),
            name => Some(name),
        }
    }
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

    fn bus(kind: Option<&str>, binary: &str) -> Option<Bus> {
        let machine_type = kind.map(|kind| Switch::verbatim("machine", kind));
        Machine { machine_type, ..Machine::default() }.bus(Path::new(binary))
    }

    #[test]
    fn test_bus_of_a_machine_type_is_that_of_its_family() {
        let x86 = "/usr/bin/qemu-system-x86_64";
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
            assert_eq!(bus(Some(kind), x86), expected, "{kind}");
        }
        assert_eq!(bus(Some("virt-9.0"), "/usr/bin/qemu-system-aarch64"), Some(Bus::Pci));
        assert_eq!(bus(Some("virt"), "qemu-system-m68k"), Some(Bus::Mmio));
        assert_eq!(bus(Some("raspi3b"), "/usr/bin/qemu-system-aarch64"), None);
        assert_eq!(bus(Some("s390-ccw-virtio-8.2"), "/opt/qemu"), Some(Bus::Ccw));
    }

    #[test]
    fn test_bus_without_a_machine_type_is_that_of_qemus_default() {
        for (binary, expected) in [
            ("/usr/bin/qemu-system-x86_64", Some(Bus::Pci)),
            ("/usr/bin/qemu-system-amd64", Some(Bus::Pci)),
            ("/usr/bin/qemu-system-x86_64-microvm", Some(Bus::Mmio)),
            ("qemu-system-s390x", Some(Bus::Ccw)),
            ("qemu-system-aarch64", None),
            ("/opt/my-qemu", None),
        ] {
            assert_eq!(bus(None, binary), expected, "{binary}");
        }
        let machine = Machine { arch: Some("s390x"), ..Machine::default() };
        assert_eq!(machine.bus(Path::new("/opt/my-qemu")), Some(Bus::Ccw));
    }
}
