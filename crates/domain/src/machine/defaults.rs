//! The defaults of a definition.

use crate::size::ByteSize;
use crate::storage::{DEFAULT_SIZE, Interface};

/// Returns the machine type for an architecture whose default has no PCI bus, or for which QEMU has none; `None` for those
/// whose default is used (7.2, 10.0).
pub fn machine_type(architecture: &str) -> Option<&'static str> {
    matches!(architecture, "aarch64" | "arm" | "riscv64" | "riscv32" | "loongarch64").then_some("virt")
}

/// Returns the CPU model for a machine type whose default does not run its guests: the one of `virt` for 64-bit Arm has
/// 32 bits. Boards keep the CPU that they are made of.
pub fn cpu_model(architecture: &str, machine_type: Option<&str>) -> Option<&'static str> {
    let is_virt = machine_type.is_some_and(|kind| kind == "virt" || kind.starts_with("virt-"));
    (architecture == "aarch64" && is_virt).then_some("max")
}

/// RAM: enough to boot a current Linux with room to work.
pub const MEMORY: ByteSize = ByteSize::from_mib(2048);

/// CPUs: one, as in QEMU.
pub const CPU: u32 = 1;

/// Spare ports of a `q35`: enough for a few disks and cards, without a measurable effect on the boot time of Linux.
pub const HOTPLUG_PORTS: u8 = 4;

/// No window: VMs are headless by default.
pub const DISPLAY: &str = "none";

/// The model of a network card: the fastest that every current guest supports.
pub const NETWORK_MODEL: &str = "virtio-net-pci";

/// The type of a drive.
pub const STORAGE_TYPE: &str = "qcow2";

/// The interface of a drive: the fastest that every current guest supports.
pub const STORAGE_INTERFACE: Interface = Interface::DEFAULT;

/// The size of a new disk; it takes space only as it fills.
pub const STORAGE_SIZE: ByteSize = DEFAULT_SIZE;

/// QEMU's seccomp sandbox: no change of user, no child processes, no changed resource limits.
///
/// All features of maqet work in it (tested with QEMU 7.2).
pub const SANDBOX: [(&str, &str); 4] =
    [("obsolete", "deny"), ("elevateprivileges", "deny"), ("spawn", "deny"), ("resourcecontrol", "deny")];

/// The ID of the character device of the first serial port.
pub const SERIAL_CHARDEV: &str = "serial0";

/// The ID of the character device of the QMP log.
pub const EVENTS_CHARDEV: &str = "events";
