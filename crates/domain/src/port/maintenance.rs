//! Maintenance of the database: check, backup and repair.

use std::path::PathBuf;

use async_trait::async_trait;

use super::StoreError;
use crate::change::StorageRecord;
use crate::vm::{Vm, VmId};

/// A VM as recorded outside the database, with the images created for it.
#[derive(Debug, Clone, PartialEq)]
pub struct VmCopy {
    /// The VM; its run is its last known start.
    pub vm: Vm,
    /// The images that maqet created for it.
    pub storage: Vec<StorageRecord>,
}

/// The result of checking a database that is not damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    /// Its schema version; the next opening migrates it to `newest_schema`.
    pub schema: i64,
    /// The newest schema version that this maqet supports.
    pub newest_schema: i64,
    /// Its journal mode, as in `wal`.
    pub journal: String,
    /// The number of VMs.
    pub vms: u64,
    /// Its size, including its write-ahead log.
    pub bytes: u64,
    /// Why it cannot be written to, if so.
    pub unwritable: Option<String>,
}

/// Where a VM of a repaired database came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecoverySource {
    /// The damaged database.
    Database,
    /// A copy beside the VM's records, because the database could not be read there.
    Copy,
    /// A backup, because neither of the other two had it.
    Backup,
}

/// The result of a repair.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairReport {
    /// Copies of the damaged files.
    pub damaged_copies: Vec<PathBuf>,
    /// The VMs of the new database, ordered by name: ID, name and origin.
    pub vms: Vec<(VmId, String, RecoverySource)>,
    /// The number of history entries and events that were recovered.
    pub log_entries: u64,
    /// Descriptions of what could not be recovered.
    pub lost: Vec<String>,
}

/// Checks, backs up and repairs a database; works even if the store cannot be opened.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait StoreMaintenance: Send + Sync {
    /// Returns where the database is, for messages.
    fn location(&self) -> String;

    /// Checks the whole database without changing it; `None` if it does not exist.
    ///
    /// Errors: `Corrupt`, `UnsupportedSchema`, `Busy`, `Full`, `Unavailable`, `Failed`.
    async fn check(&self) -> Result<Option<StoreHealth>, StoreError>;

    /// Backs up a database that is not damaged and returns the path of the backup; the oldest backups are removed.
    ///
    /// Errors: as [`StoreMaintenance::check`].
    async fn backup(&self) -> Result<PathBuf, StoreError>;

    /// Returns the newest backup, if there is one.
    async fn newest_backup(&self) -> Option<PathBuf>;

    /// Rebuilds the database from its readable rows, from `known`, and from the newest backup.
    ///
    /// The damaged files are copied first, and stay untouched until the new database is complete. A VM of `known` is
    /// used only if the database can neither confirm nor rule it out. Errors: `Busy` if another process has the
    /// database open, `UnsupportedSchema` (it is not damaged), `Full`, `Unavailable`, `Failed`.
    async fn repair(&self, known: Vec<VmCopy>) -> Result<RepairReport, StoreError>;
}
