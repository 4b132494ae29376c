//! Copies of definitions outside of the database, for the day it is damaged or gone.

use async_trait::async_trait;

use super::KeptVm;
use crate::error::Cause;
use crate::vm::VmId;

/// Keeps a copy of each VM beside its records.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait VmCopies: Send + Sync {
    /// Keeps a copy, whole, in the place of the one before; its run is not part of it.
    ///
    /// Errors: whatever hinders the writing; the database is the truth and is written already.
    async fn keep(&self, copy: &KeptVm) -> Result<(), Cause>;

    /// Returns how many copies of VMs of this database there are.
    async fn count(&self) -> usize;

    /// Returns the copies of VMs of this database, by name; what cannot be read is left out.
    async fn all(&self) -> Vec<KeptVm>;

    /// Returns the copy of one VM.
    async fn of_vm(&self, id: &VmId) -> Option<KeptVm>;
}
