//! What holds where a definition says nothing; here and nowhere else.

use crate::size::ByteSize;
use crate::storage::{DEFAULT_SIZE, Interface};

/// RAM: enough to boot a current Linux with room to work.
pub const MEMORY: ByteSize = ByteSize::from_mib(2048);

/// CPUs: one, as QEMU itself has it.
pub const CPU: u32 = 1;

/// Spare ports of a `q35`: a few disks and cards; four did not show in the time that a Linux guest needs to boot.
pub const HOTPLUG_PORTS: u8 = 4;

/// No window: VMs are driven headless, and a window is one word away.
pub const DISPLAY: &str = "none";

/// The network card of an entry that names none: the fastest that every current guest knows.
pub const NETWORK_MODEL: &str = "virtio-net-pci";

/// The storage type of an entry that names none.
pub const STORAGE_TYPE: &str = "qcow2";

/// The interface of a drive that names none: the fastest that every current guest knows.
pub const STORAGE_INTERFACE: Interface = Interface::DEFAULT;

/// The size of a disk that is made without one being named; it takes space only as it fills.
pub const STORAGE_SIZE: ByteSize = DEFAULT_SIZE;

/// QEMU's own confinement (seccomp): no other user, no children, no changed limits.
///
/// Everything maqet does works under it (tried with QEMU 7.2).
pub const SANDBOX: [(&str, &str); 4] =
    [("obsolete", "deny"), ("elevateprivileges", "deny"), ("spawn", "deny"), ("resourcecontrol", "deny")];
