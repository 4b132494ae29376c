//! The host: clock, IDs, properties and capabilities.

use jiff::Timestamp;

use crate::history::Actor;
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
}

/// Whether KVM works on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kvm {
    /// It works.
    Usable,
    /// It does not, and why.
    Unusable(String),
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

/// The host and its user.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Host: Send + Sync {
    /// Returns the properties of the host.
    fn facts(&self) -> HostFacts;

    /// Returns the user and process that run maqet.
    fn actor(&self) -> Actor;
}
