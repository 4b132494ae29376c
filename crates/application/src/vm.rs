//! The state of a VM, and what changes it: observing, reconciling, orphans, shutting down.

pub(crate) mod monitor;
pub(crate) mod observe;
pub(crate) mod orphan;
pub(crate) mod reconcile;
pub(crate) mod shutdown;
pub(crate) mod unresponsive;
