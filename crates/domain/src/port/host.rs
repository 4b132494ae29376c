//! The host: clock, ids, what it is and what it can.

use jiff::Timestamp;

use crate::history::Actor;
use crate::vm::VmId;

/// Tells the time.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Clock: Send + Sync {
    /// Returns the present moment.
    fn now(&self) -> Timestamp;
}

/// Makes ids.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait IdSource: Send + Sync {
    /// Returns an id that no VM has.
    fn vm_id(&self) -> VmId;
}

/// Whether KVM can run a guest here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kvm {
    /// It can.
    Usable,
    /// It cannot, and why.
    Unusable(String),
}

/// What the host is and can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// The architecture as QEMU spells it in `qemu-system-…`.
    pub architecture: String,
    /// Whether KVM can run a guest here: `/dev/kvm` opens read-write and, on x86, the CPU has `vmx`
    /// or `svm` (a device node alone is not enough; guests hang on it).
    pub kvm: Kvm,
    /// Whether root runs us.
    pub is_root: bool,
}

/// Knows the host.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Host: Send + Sync {
    /// Returns what the host is and can.
    fn facts(&self) -> HostFacts;

    /// Returns who is asking.
    fn actor(&self) -> Actor;
}
