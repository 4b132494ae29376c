//! The health of what is kept: a database looked at as a whole, backed up, and built anew from what is left.

use std::path::PathBuf;

use async_trait::async_trait;

use super::StoreError;
use crate::change::StorageRecord;
use crate::vm::{Vm, VmId};

/// A VM as it is known outside of the database, with the images that were made for it.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptVm {
    /// The VM; its run is what was found of its last start.
    pub vm: Vm,
    /// The images that maqet made for it.
    pub storage: Vec<StorageRecord>,
}

/// What a look at a whole database found, where nothing is wrong with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    /// The version of its schema; the next opening brings it to `newest_schema`.
    pub schema: i64,
    /// The newest version that is known here.
    pub newest_schema: i64,
    /// How commits are kept safe, as in `wal`.
    pub journal: String,
    /// How many VMs it holds.
    pub vms: u64,
    /// Its size, its log included.
    pub bytes: u64,
    /// Why nothing can be written to it, if so.
    pub unwritable: Option<String>,
}

/// Where a VM of a database that was built anew came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// It could be read.
    Database,
    /// It could not, and there was a copy.
    Copy,
    /// It could not, and there was a backup.
    Backup,
}

/// What came of building a database anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairReport {
    /// Where the damaged files were kept, whole.
    pub kept: Vec<PathBuf>,
    /// The VMs of the new database: id, name, and where each came from; by name.
    pub vms: Vec<(VmId, String, Origin)>,
    /// How many entries of history and events were saved.
    pub log_entries: u64,
    /// What could not be saved, in words.
    pub lost: Vec<String>,
}

/// Looks after a database as a whole; works also where no store can be opened.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait StoreMaintenance: Send + Sync {
    /// Returns where the database is, for messages.
    fn location(&self) -> String;

    /// Reads the whole database without changing it; `None` if there is none.
    ///
    /// Errors: those of opening and reading: `Corrupt`, `NewerSchema`, `Busy`, `Full`, `Unavailable`, `Failed`.
    async fn check(&self) -> Result<Option<StoreHealth>, StoreError>;

    /// Copies a database that is sound; returns where to. The oldest backups go.
    ///
    /// Errors: as [`StoreMaintenance::check`].
    async fn backup(&self) -> Result<PathBuf, StoreError>;

    /// Returns the newest backup, if there is one.
    async fn newest_backup(&self) -> Option<PathBuf>;

    /// Builds the database anew: from what can still be read of it, from `known`, and from the newest backup.
    ///
    /// What is there is copied first, and stays untouched until the new one is complete. A VM of `known` is taken only
    /// where the database cannot tell whether it holds it.
    /// Errors: `Busy` when somebody else is at it, `NewerSchema` (it is not damaged), `Full`, `Unavailable`, `Failed`.
    async fn repair(&self, known: Vec<KeptVm>) -> Result<RepairReport, StoreError>;
}
