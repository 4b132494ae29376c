//! The host: clock, IDs, properties and capabilities.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::MoveId;
use crate::guest::Nonce;
use crate::history::Actor;
use crate::machine::UsbDevice;
use crate::qmp::wording::Endpoint;
use crate::snapshot::SnapshotSetId;
use crate::vm::VmId;

/// The system clock.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Clock: Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// Generates IDs.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait IdSource: Send + Sync {
    /// Returns a new ID for a VM.
    fn vm_id(&self) -> VmId;

    /// Returns a new ID for a set of snapshots.
    fn snapshot_set_id(&self) -> SnapshotSetId;

    /// Returns a new ID for a move of a database.
    fn move_id(&self) -> MoveId;

    /// Returns a text that identifies a command in a guest.
    fn nonce(&self) -> Nonce;
}

/// Whether KVM works on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kvm {
    /// It works.
    Usable,
    /// It does not, and why.
    Unusable(String),
    /// QEMU can use it, and guests would hang; why.
    Hanging(String),
}

impl Kvm {
    /// Returns why it is not to be used; `None` if it works.
    pub fn obstacle(&self) -> Option<&str> {
        match self {
            Self::Usable => None,
            Self::Unusable(reason) | Self::Hanging(reason) => Some(reason),
        }
    }
}

/// Properties of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The architecture, as in `qemu-system-…`.
    pub architecture: String,
    /// Whether KVM works: `/dev/kvm` opens read-write and, on x86, the CPU has `vmx` or `svm`. A device node alone is
    /// not enough; guests would hang.
    pub kvm: Kvm,
    /// Whether this process runs as root.
    pub is_root: bool,
}

/// What keeps a program from a port of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortObstacle {
    /// A process listens there; `None` if it belongs to another user.
    InUse(Option<PortUser>),
    /// Only root may listen there.
    Privileged,
    /// No network interface has the address.
    NoAddress,
}

/// A process that listens at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortUser {
    /// The process ID.
    pub pid: u32,
    /// The name of its program.
    pub program: String,
}

/// The host and its user.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Host: Send + Sync {
    /// Returns the properties of the host.
    fn facts(&self) -> HostFacts;

    /// Returns the flags of the host's CPU, sorted; none where they are not known.
    fn cpu_flags(&self) -> Vec<String>;

    /// Returns what keeps this user from listening at a port; `None` if nothing does.
    fn port_obstacle(&self, endpoint: &Endpoint) -> Option<PortObstacle>;

    /// Returns the file of a USB device of the host that is plugged in, if QEMU may not open it.
    fn refused_usb_file(&self, device: &UsbDevice) -> Option<PathBuf>;

    /// Returns what keeps a program from a UNIX socket that exists: a process that listens there.
    fn socket_obstacle(&self, path: &Path) -> Option<PortObstacle>;

    /// Returns whether the host has a network interface of this name; `None` if that cannot be determined.
    fn has_interface(&self, name: &str) -> Option<bool>;

    /// Returns the user and process that run maqet.
    fn actor(&self) -> Actor;
}
