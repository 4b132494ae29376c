//! The logs of VMs: their limits, what keeps them within these, and why they cannot be written.

pub(crate) mod failure;
pub(crate) mod keeper;
pub(crate) mod limits;
