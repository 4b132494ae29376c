//! Maintenance of the database: check, backup and repair.

use std::path::PathBuf;

use async_trait::async_trait;
use jiff::Timestamp;

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
    /// When the copy was written, if it was.
    pub written_at: Option<Timestamp>,
}

impl VmCopy {
    /// Makes the copy of a VM that is yet to be written.
    #[must_use]
    pub const fn new(vm: Vm, storage: Vec<StorageRecord>) -> Self {
        Self { vm, storage, written_at: None }
    }

    /// Returns whether the database lost the VM: it does not hold it, and did not hold a removal since the copy was written.
    #[must_use]
    pub fn is_missing(&self, presence: VmPresence) -> bool {
        presence.is_lost_since(self.written_at)
    }
}

/// What a database says about a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmPresence {
    /// It holds it, perhaps for another user or host.
    Held,
    /// It holds it for another user or host, which took it over.
    TakenOver,
    /// It records that it was removed.
    Removed {
        /// When, the last time.
        at: Timestamp,
    },
    /// It was moved to another database, by another user or host.
    Moved {
        /// When, the last time.
        at: Timestamp,
    },
    /// Nothing: it was never added, or the database is older than the VM.
    Unknown,
}

impl VmPresence {
    /// Returns whether a VM that was in the database when its copy was written was lost, and not removed.
    ///
    /// A VM that is defined again under its ID has a copy that is newer than its removal.
    #[must_use]
    pub fn is_lost_since(self, copied_at: Option<Timestamp>) -> bool {
        match self {
            Self::Held | Self::TakenOver => false,
            Self::Removed { at } | Self::Moved { at } => copied_at.is_some_and(|copied_at| copied_at > at),
            Self::Unknown => true,
        }
    }
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

    /// Backs up a database that is not damaged to a new file.
    ///
    /// Errors: as [`StoreMaintenance::check`]; `BackupExists`; `BackupUnsupported` for a server with tools of its own.
    async fn backup_to(&self, file: PathBuf) -> Result<(), StoreError>;

    /// Returns the newest backup, if there is one.
    async fn newest_backup(&self) -> Option<PathBuf>;

    /// Rebuilds the database from its readable rows, from `known`, and from the newest backup.
    ///
    /// The damaged files are copied first, and stay untouched until the new database is complete. A VM of `known` is
    /// used only if the database can neither confirm nor rule it out. Errors: `Busy` if another process has the
    /// database open, `UnsupportedSchema` (it is not damaged), `Full`, `Unavailable`, `Failed`.
    async fn repair(&self, known: Vec<VmCopy>) -> Result<RepairReport, StoreError>;

    /// Returns what the database says about each of `vms`, in their order; of whatever user and host they are.
    ///
    /// Works for a database that is another one than that of the copies. Errors: as [`StoreMaintenance::check`].
    async fn presence(&self, vms: Vec<VmId>) -> Result<Vec<VmPresence>, StoreError>;

    /// Adds VMs to a database that is not damaged but lacks them, except for those whose name is in use.
    ///
    /// From then on the database is that of the copies, even if it was created again. Errors: those of a commit.
    async fn add_missing(&self, missing: Vec<VmCopy>) -> Result<RepairReport, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_is_lost_since_without_later_removal_is_true() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();

        assert!(VmPresence::Unknown.is_lost_since(None) && VmPresence::Unknown.is_lost_since(Some(at(1))));
        assert!(VmPresence::Removed { at: at(1) }.is_lost_since(Some(at(2))));
        assert!(!VmPresence::Removed { at: at(2) }.is_lost_since(Some(at(1))));
        assert!(!VmPresence::Removed { at: at(1) }.is_lost_since(None));
        assert!(VmPresence::Moved { at: at(1) }.is_lost_since(Some(at(2))));
        assert!(!VmPresence::Moved { at: at(2) }.is_lost_since(Some(at(1))));
        assert!(!VmPresence::Held.is_lost_since(Some(at(1))));
    }
}
