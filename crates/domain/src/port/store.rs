//! What is kept: VMs, storage records, history and events.

use async_trait::async_trait;

use crate::change::{ChangeSet, StorageRecord};
use crate::error::{Cause, Explain, Fault};
use crate::event::RecordedEvent;
use crate::history::RecordedHistory;
use crate::vm::{Vm, VmEntry, VmId, VmName};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A VM of this name is there already.
    #[error("there is a VM named `{name}` already")]
    NameTaken {
        /// The name.
        name: VmName,
    },
    /// Somebody else changed the VM in the meantime.
    #[error("the VM `{id}` was changed or removed by somebody else in the meantime")]
    Conflict {
        /// The VM.
        id: VmId,
    },
    /// Others kept the store locked for too long.
    #[error("the database `{location}` is locked by others")]
    Busy {
        /// The database.
        location: String,
    },
    /// What is in the file is no database of ours, or is damaged.
    #[error("the database `{location}` is damaged: {detail}")]
    Corrupt {
        /// The database.
        location: String,
        /// What was found.
        detail: String,
    },
    /// There is no database, and VMs that were in one are still known.
    #[error("the database `{location}` is gone, and {vms} of its VMs are still known")]
    Lost {
        /// The database.
        location: String,
        /// How many VMs there are copies of.
        vms: usize,
    },
    /// The database was written by a newer maqet.
    #[error("the database `{location}` has schema {found}, and this maqet knows {known}")]
    NewerSchema {
        /// The database.
        location: String,
        /// The schema found.
        found: i64,
        /// The newest schema known.
        known: i64,
    },
    /// There is no space to write.
    #[error("there is no space left to write to the database `{location}`")]
    Full {
        /// The database.
        location: String,
    },
    /// The database cannot be opened or may not be written.
    #[error("the database `{location}` cannot be used")]
    Unavailable {
        /// The database.
        location: String,
        /// Why.
        source: Cause,
    },
    /// Anything else.
    #[error("the store could not {action}")]
    Failed {
        /// What was tried, as in `read a VM`.
        action: &'static str,
        /// Why it failed.
        source: Cause,
    },
}

impl Explain for StoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::NameTaken { .. } => "vm.name-taken",
            Self::Conflict { .. } => "store.conflict",
            Self::Busy { .. } => "store.busy",
            Self::Corrupt { .. } => "store.corrupt",
            Self::Lost { .. } => "store.lost",
            Self::NewerSchema { .. } => "store.newer-schema",
            Self::Full { .. } => "store.full",
            Self::Unavailable { .. } => "store.unavailable",
            Self::Failed { .. } => "store.failed",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::NameTaken { .. } => Fault::State,
            Self::Conflict { .. } | Self::Busy { .. } => Fault::Busy,
            Self::NewerSchema { .. } | Self::Full { .. } | Self::Unavailable { .. } => Fault::Host,
            Self::Corrupt { .. } | Self::Lost { .. } | Self::Failed { .. } => Fault::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NameTaken { name } => vec![
                "choose another name with `--name`".to_owned(),
                format!("remove the one that is there with `maqet rm {name}`"),
            ],
            Self::Conflict { .. } | Self::Busy { .. } => vec!["try again".to_owned()],
            Self::Corrupt { .. } => {
                vec!["keep a copy of it and repair it with `maqet doctor --fix`".to_owned()]
            }
            Self::Lost { .. } => vec!["build it anew from the copies with `maqet doctor --fix`".to_owned()],
            Self::NewerSchema { .. } => vec!["update maqet, or name another database with `--database`".to_owned()],
            Self::Full { .. } => vec!["free some space; `maqet doctor` tells where".to_owned()],
            Self::Unavailable { .. } => vec![
                "look at the owner and the permissions of its folder".to_owned(),
                "see what else is wrong with `maqet doctor`".to_owned(),
            ],
            Self::Failed { .. } => Vec::new(),
        }
    }
}

/// Reads VMs.
#[async_trait]
pub trait VmRepository: Send + Sync {
    /// Returns the VM of this id.
    ///
    /// Errors: `Busy`, `Corrupt`, `Unavailable`, `Failed`, as all reads.
    async fn by_id(&self, id: &VmId) -> Result<Option<Vm>, StoreError>;

    /// Returns the VM of this name.
    async fn by_name(&self, name: &VmName) -> Result<Option<Vm>, StoreError>;

    /// Returns the entries of the VMs whose id begins with `prefix`: hexadecimal digits of either case, with or
    /// without the hyphens of a UUID; in the order of their ids.
    async fn by_id_prefix(&self, prefix: &str) -> Result<Vec<VmEntry>, StoreError>;

    /// Returns the entries of all VMs in the order of their names; one that is made or removed meanwhile may or may not be
    /// there.
    async fn list(&self) -> Result<Vec<VmEntry>, StoreError>;
}

/// Reads which files maqet made.
#[async_trait]
pub trait StorageLedger: Send + Sync {
    /// Returns the records of a VM in the order they were made.
    async fn of_vm(&self, id: &VmId) -> Result<Vec<StorageRecord>, StoreError>;
}

/// Reads who changed what.
#[async_trait]
pub trait HistoryLog: Send + Sync {
    /// Returns at most `limit` of the newest entries, the newest first.
    async fn newest(&self, limit: u32) -> Result<Vec<RecordedHistory>, StoreError>;
}

/// Reads what happened.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Returns at most `limit` events after `sequence`, the oldest first; 0 begins at the beginning.
    async fn after(&self, sequence: i64, limit: u32) -> Result<Vec<RecordedEvent>, StoreError>;
}

/// Everything that is kept, and the one way to write it.
#[async_trait]
pub trait Store: VmRepository + StorageLedger + HistoryLog + EventLog {
    /// Writes all of `changes` or nothing; durable when it returns.
    ///
    /// A dropped future may still have written. Errors: `NameTaken` when a VM of the name (or id) is
    /// there; `Conflict` when a VM is not at the expected revision or is gone; `Busy`, `Full`,
    /// `Corrupt`, `Unavailable`, `Failed`.
    async fn commit(&self, changes: ChangeSet) -> Result<(), StoreError>;
}
