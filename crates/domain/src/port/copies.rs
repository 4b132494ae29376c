//! Copies of definitions outside of the database, in case it is damaged or lost.

use async_trait::async_trait;
use uuid::Uuid;

use super::VmCopy;
use crate::error::Cause;
use crate::vm::VmId;

/// Stores a copy of each VM beside its records.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait VmCopies: Send + Sync {
    /// Stores a copy of a VM without its run, replacing the previous copy atomically.
    ///
    /// Errors: those of the file system; the database is authoritative and was written before.
    async fn write(&self, copy: &VmCopy) -> Result<(), Cause>;

    /// Returns the number of copies of VMs of this database.
    async fn count(&self) -> usize;

    /// Returns the copies of VMs of this database, ordered by name; unreadable ones are left out.
    async fn all(&self) -> Vec<VmCopy>;

    /// Returns the copies of VMs of other databases; unreadable ones are left out.
    async fn of_other_databases(&self) -> Vec<VmCopy>;

    /// Returns the copy of one VM.
    async fn find(&self, id: &VmId) -> Option<VmCopy>;

    /// Removes the copy of one VM, which another host has by now.
    ///
    /// Errors: those of the file system.
    async fn remove(&self, id: &VmId) -> Result<(), Cause>;

    /// Makes the copies of the database `from` those of the database `to`; they keep the time at which they were written.
    ///
    /// Errors: those of the file system; some copies may be those of either database then.
    async fn hand_over(&self, from: &str, to: &str) -> Result<(), Cause>;

    /// Returns the ID of the database of the copies, if one was recorded.
    async fn database_id(&self) -> Option<Uuid>;

    /// Records the ID of the database of the copies: another database of that name is not theirs.
    async fn record_database_id(&self, id: Uuid) -> Result<(), Cause>;
}
