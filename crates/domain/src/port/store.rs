//! Storage: VMs, storage records, history and events.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::VmCopy;
use crate::change::{ChangeSet, StorageRecord, UsedImage};
use crate::error::{Cause, Explain, Explanation, Fault};
use crate::event::RecordedEvent;
use crate::history::{HistoryQuery, RecordedHistory};
use crate::snapshot::SnapshotRecord;
use crate::text::quote;
use crate::vm::{Vm, VmEntry, VmId, VmName};

/// Why the store failed; `location` names the database: a file or a URL.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum StoreError {
    #[error("VM `{name}` already exists")]
    Exists { name: VmName },
    /// Another user or host has the VM.
    #[error("VM `{name}` cannot be added: another user or host has a VM with its ID `{id}`")]
    IdExists { name: VmName, id: VmId },
    /// The VM is not at the expected revision, or was removed.
    #[error("VM `{id}` was changed or removed by another process")]
    Conflict { id: VmId },
    /// Another entry of the history reverts the same one.
    #[error("entry {sequence} of the history is reverted already")]
    Reverted { sequence: i64 },
    #[error("database `{location}` is locked by another process")]
    Busy { location: String },
    /// The file is not a maqet database, or is damaged.
    #[error("database `{location}` is corrupt: {detail}")]
    Corrupt { location: String, detail: String },
    /// The database of a server holds something that maqet never writes, or lacks tables.
    #[error("database `{location}` is corrupt: {detail}")]
    ServerCorrupt { location: String, detail: String },
    /// There is no database, but there are copies of VMs that it held.
    #[error("database `{location}` not found, but {}", describe_lost(*vms))]
    NotFound { location: String, vms: usize },
    /// There is a database, but not the one that held the VMs of which there are copies.
    #[error("database `{location}` was created again, and copies of {vms} VMs exist that it does not have")]
    Replaced { location: String, vms: usize },
    #[error("database `{location}` has schema version {found}; this maqet supports versions up to {known}")]
    UnsupportedSchema { location: String, found: i64, known: i64 },
    #[error("no space left to write to database `{location}`")]
    Full { location: String },
    #[error("cannot use database `{location}`")]
    Unavailable { location: String, source: Cause },
    /// The URL of the database is not valid.
    #[error("invalid database URL: {reason}")]
    InvalidUrl { reason: String },
    /// The server of the database does not run, or cannot be reached.
    #[error("cannot reach database `{location}`")]
    Unreachable { location: String, source: Cause },
    /// The server refused the user, the password, the certificate, or what was tried.
    #[error("access to database `{location}` was refused")]
    AccessRefused { location: String, source: Cause },
    /// A file with a password or a key can be read by other users.
    #[error("`{}` is not used: other users can access it", path.display())]
    InsecureSecret { path: PathBuf },
    /// All connections that the server accepts are in use.
    #[error("database `{location}` accepts no more connections")]
    TooManyConnections { location: String },
    /// The server is a standby, or was set to be read-only.
    #[error("database `{location}` is read-only")]
    ReadOnly { location: String },
    /// The server did not respond.
    #[error("database `{location}` did not respond within {waited:?}")]
    TimedOut { location: String, waited: Duration },
    /// The connection was lost during a commit, and the server cannot be asked about it.
    #[error("the connection to database `{location}` was lost during a commit, which may or may not be done")]
    Interrupted { location: String, source: Cause },
    /// The file of a backup exists, and is kept.
    #[error("`{}` exists", path.display())]
    BackupExists { path: PathBuf },
    /// The server has tools of its own for that.
    #[error("database `{location}` is backed up with the tools of its server")]
    BackupUnsupported { location: String },
    /// All that the database held is in another one.
    #[error("database `{location}` was moved to `{to}`")]
    Moved { location: String, to: String },
    /// A move was interrupted: the database may hold all of the other one, which is still the one in use, or no more.
    #[error("the move of database `{from}` to `{location}` is not finished")]
    MoveUnfinished { location: String, from: String },
    /// Something is to be moved to a database that holds something else.
    #[error("database `{location}` is not empty")]
    NotEmpty { location: String },
    /// A database is to be moved to itself.
    #[error("database `{location}` is the one in use")]
    MoveToItself { location: String },
    /// A database that was moved is to be used again, and the other one may exist.
    #[error("database `{location}` is not used again: `{other}` may exist, and two databases would have the same VMs")]
    ReclaimRefused { location: String, other: String },
    /// A store of a program that embeds maqet.
    #[error("database `{location}` is of a kind that cannot be moved")]
    MoveUnsupported { location: String },
    /// Other commands wrote to the database each time it was copied.
    #[error("database `{location}` was changed again and again while it was copied")]
    MoveContended { location: String },
    /// What was read back from a database is not what was written to it.
    #[error("database `{location}` does not hold what was copied to it")]
    NotVerified { location: String },
    /// Anything else; `action` is what was tried, as in `read a VM`.
    #[error("failed to {action}")]
    Failed { action: &'static str, source: Cause },
}

/// Describes what is known about a database that is gone.
fn describe_lost(vms: usize) -> String {
    match vms {
        0 => "it was used before".to_owned(),
        vms => format!("copies of {vms} of its VMs exist"),
    }
}

/// Returns the option that names a database.
fn database_option(url: &str) -> String {
    format!("--database {}", quote(url))
}

/// Adds what a URL of a server lacks: it is recorded without the user and the password.
fn with_user(explanation: Explanation, urls: &[&str]) -> Explanation {
    if !urls.iter().any(|url| url.contains("://")) {
        return explanation;
    }
    explanation.hint("add the user, unless it has your name: `postgres://USER@HOST/DATABASE`")
}

impl Explain for StoreError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Exists { name } => Explanation::new("vm.exists", Fault::State)
                .hint(format!("run `maqet apply {name} FILE` to change it"))
                .hint("pass `--name` to choose another name")
                .hint(format!("run `maqet rm {name}` to remove it")),
            Self::IdExists { .. } => Explanation::new("vm.id-exists", Fault::State)
                .hint("list the VMs of all hosts with `maqet ls --host '*'`")
                .hint("remove it there, or move it to this host with `maqet host evict`"),
            Self::Conflict { .. } => Explanation::new("store.conflict", Fault::Busy).hint("run the command again"),
            Self::Reverted { .. } => {
                Explanation::new("history.entry-conflict", Fault::State).hint("show the history with `maqet history`")
            }
            Self::Busy { .. } => Explanation::new("store.busy", Fault::Busy).hint("run the command again"),
            Self::Corrupt { .. } => Explanation::new("store.corrupt", Fault::Failed)
                .hint("run `maqet doctor --fix` to repair it; the damaged file is kept"),
            Self::ServerCorrupt { .. } => Explanation::new("store.corrupt", Fault::Failed)
                .hint("restore a backup of the database, as made by `pg_dump`, with `pg_restore`"),
            Self::NotFound { .. } => Explanation::new("store.not-found", Fault::Failed)
                .hint("run `maqet doctor --fix` to rebuild it from the copies"),
            Self::Replaced { .. } => Explanation::new("store.vms-not-found", Fault::Failed)
                .hint("run `maqet doctor --fix` to add them from the copies")
                .hint("restore a backup of the database, which also has their history and snapshots"),
            Self::UnsupportedSchema { .. } => Explanation::new("store.schema-unsupported", Fault::Host)
                .hint("update maqet, or pass another database with `--database`"),
            Self::Full { .. } => {
                Explanation::new("store.full", Fault::Host).hint("free some space; `maqet doctor` shows where")
            }
            Self::Unavailable { .. } => Explanation::new("store.unavailable", Fault::Host)
                .hint("check the owner and the permissions of its directory")
                .hint("run `maqet doctor` to check the host"),
            Self::InvalidUrl { .. } => Explanation::new("store.url-invalid", Fault::Usage)
                .hint("write it as `postgres://USER@HOST:PORT/DATABASE`"),
            Self::Unreachable { .. } => Explanation::new("store.server-unavailable", Fault::Host)
                .hint("check that the server runs and accepts connections from this host"),
            Self::AccessRefused { .. } => Explanation::new("store.access-refused", Fault::Host)
                .hint("check the user and the password: in `~/.pgpass`, or in the variable `PGPASSWORD`"),
            Self::InsecureSecret { path } => Explanation::new("store.secret-insecure", Fault::Host)
                .hint(format!("run `chmod 600 {}`", quote(&path.display().to_string()))),
            Self::TooManyConnections { .. } => Explanation::new("store.connections-busy", Fault::Busy)
                .hint("run the command again, or raise `max_connections` of the server"),
            Self::ReadOnly { .. } => Explanation::new("store.write-refused", Fault::Host)
                .hint("use the URL of the primary server; a standby can only be read"),
            Self::TimedOut { .. } => Explanation::new("store.timed-out", Fault::TimedOut)
                .hint("check the server and the network to it, and run the command again"),
            Self::Interrupted { .. } => Explanation::new("store.commit-interrupted", Fault::Failed)
                .hint("check with `maqet ls` what was recorded once the server responds"),
            Self::BackupExists { .. } => {
                Explanation::new("store.backup-exists", Fault::State).hint("choose another file, or remove it")
            }
            Self::BackupUnsupported { .. } => Explanation::new("store.backup-unsupported", Fault::Usage)
                .hint("run `pg_dump --format=custom --file=FILE DATABASE`"),
            Self::Moved { to, .. } => {
                let use_it = format!("set `database: {to}` in `maqet.conf`, or pass `{}`", database_option(to));
                let explanation = Explanation::new("store.moved-refused", Fault::State).hint(use_it);
                with_user(explanation, &[to]).hint("if that database is lost, run `maqet database reclaim`")
            }
            Self::MoveUnfinished { location, from } => {
                let finish = format!("{} database move --to {}", database_option(from), quote(location));
                let explanation = Explanation::new("store.move-interrupted", Fault::State)
                    .hint(format!("run `maqet {finish}` to finish it"));
                with_user(explanation, &[from, location])
            }
            Self::NotEmpty { .. } => Explanation::new("store.content-exists", Fault::State)
                .hint("choose a new database, or one in which this user of this host has nothing"),
            Self::MoveToItself { .. } => {
                Explanation::new("store.move-invalid", Fault::Usage).hint("pass the URL of another database")
            }
            Self::ReclaimRefused { location, other } => {
                let back = format!("{} database move --to {}", database_option(other), quote(location));
                let explanation = Explanation::new("store.reclaim-refused", Fault::State)
                    .hint(format!("if it exists, run `maqet {back}` to move it back"))
                    .hint("if it is lost, pass `--force`");
                with_user(explanation, &[other, location])
            }
            Self::MoveUnsupported { .. } => Explanation::new("store.move-unsupported", Fault::Usage),
            Self::MoveContended { .. } => Explanation::new("store.move-busy", Fault::Busy)
                .hint("run the command again once other commands are done"),
            Self::NotVerified { .. } => Explanation::new("store.move-failed", Fault::Failed)
                .hint("check the other database; the one in use is as it was"),
            Self::Failed { .. } => Explanation::new("store.failed", Fault::Failed),
        }
    }
}

/// A VM of another user or host, in a store that several share.
#[derive(Debug, Clone, PartialEq)]
pub struct ForeignVm {
    /// The name of the host.
    pub host: String,
    /// The name of the user there.
    pub owner: String,
    /// The VM as recorded; only its host can find out more.
    pub entry: VmEntry,
}

/// What a store that several hosts share says about a user of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecord {
    /// The name of the host.
    pub host: String,
    /// The name of the user there.
    pub owner: String,
    /// When one of its commands last used the store, by the clock of the store, if that was recorded; a minute of activity
    /// is recorded once.
    pub seen_at: Option<Timestamp>,
    /// How long ago that was; `None` if it is not known.
    pub unseen: Option<Duration>,
    /// The number of its VMs.
    pub vms: u64,
    /// The number of those whose last recorded run has not ended.
    pub open_runs: u64,
}

/// Reads VMs.
///
/// All reads return the errors `Busy`, `Corrupt`, `Unavailable` and `Failed`, and, if the store is a server,
/// `Unreachable`, `AccessRefused`, `TooManyConnections` and `TimedOut`. If what the store held was moved meanwhile, they
/// return `Moved` or `MoveUnfinished`.
#[async_trait]
pub trait VmRepository: Send + Sync {
    /// Returns the VM with this ID.
    async fn by_id(&self, id: &VmId) -> Result<Option<Vm>, StoreError>;

    /// Returns the VM with this name.
    async fn by_name(&self, name: &VmName) -> Result<Option<Vm>, StoreError>;

    /// Returns the entries of the VMs whose ID starts with `prefix`, ordered by ID.
    ///
    /// The prefix is hexadecimal digits of either case, with or without the hyphens of a UUID.
    async fn by_id_prefix(&self, prefix: &str) -> Result<Vec<VmEntry>, StoreError>;

    /// Returns the entries of all VMs, ordered by name; one that is added or removed meanwhile may or may not be
    /// included.
    async fn list(&self) -> Result<Vec<VmEntry>, StoreError>;

    /// Returns all VMs with their definitions, as [`list`](Self::list) does.
    ///
    /// A store reads them at once, if it can: one after the other, a server is asked thousands of times.
    async fn vms(&self) -> Result<Vec<Vm>, StoreError> {
        let mut vms = Vec::new();
        for entry in self.list().await? {
            // Another process may have removed it since.
            vms.extend(self.by_id(&entry.id).await?);
        }
        Ok(vms)
    }
}

/// Reads what other users and hosts have in a store that several share; a store that is not shared has nothing of that.
///
/// The other traits do not find it, and a commit changes it only by [`Change::VmTakenOver`](crate::change::Change).
#[async_trait]
pub trait HostLedger: Send + Sync {
    /// Returns the VMs of others, ordered by host, owner and name.
    async fn foreign(&self) -> Result<Vec<ForeignVm>, StoreError> {
        Ok(Vec::new())
    }

    /// Returns one VM of others, with its storage records.
    async fn foreign_vm(&self, id: &VmId) -> Result<Option<VmCopy>, StoreError> {
        let _none_has_it = id;
        Ok(None)
    }

    /// Returns the images that a VM of others used when it was last started, as far as that is recorded.
    async fn foreign_images(&self, id: &VmId) -> Result<Vec<UsedImage>, StoreError> {
        let _none_has_it = id;
        Ok(Vec::new())
    }

    /// Returns the users of hosts that used the store or have VMs in it, also this one; ordered by host and owner.
    async fn hosts(&self) -> Result<Vec<HostRecord>, StoreError> {
        Ok(Vec::new())
    }

    /// Records that this user of this host is there, unless that was recorded a moment ago; reads do the same.
    async fn show_life(&self) {}
}

/// Reads the records of the images that maqet created.
#[async_trait]
pub trait StorageLedger: Send + Sync {
    /// Returns the records of a VM, oldest first.
    async fn storage_of_vm(&self, id: &VmId) -> Result<Vec<StorageRecord>, StoreError>;

    /// Returns the records of removed VMs, oldest first.
    async fn storage_without_vm(&self) -> Result<Vec<StorageRecord>, StoreError>;

    /// Returns all records, also those of removed VMs, oldest first.
    async fn all_storage(&self) -> Result<Vec<StorageRecord>, StoreError>;

    /// Returns the record of the image at this path, of whatever VM.
    async fn storage_at(&self, path: &Path) -> Result<Option<StorageRecord>, StoreError>;
}

/// Reads the records of snapshots.
#[async_trait]
pub trait SnapshotLedger: Send + Sync {
    /// Returns the records of a VM, ordered by drive and tag.
    async fn snapshots_of_vm(&self, id: &VmId) -> Result<Vec<SnapshotRecord>, StoreError>;
}

/// Reads the history of changes.
#[async_trait]
pub trait HistoryLog: Send + Sync {
    /// Returns the entries that a query asks for, newest first.
    async fn history(&self, query: &HistoryQuery) -> Result<Vec<RecordedHistory>, StoreError>;

    /// Returns whether an entry of any user reverts the one with this number.
    async fn is_reverted(&self, sequence: i64) -> Result<bool, StoreError>;
}

/// Reads the event log.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Returns at most `limit` events after `sequence`, oldest first; 0 starts at the first event.
    ///
    /// If none was found after `sequence` before, those that other stores wrote in the last second may be missing.
    async fn events_after(&self, sequence: i64, limit: u32) -> Result<Vec<RecordedEvent>, StoreError>;
}

/// The store: all reads, and the only way to write.
#[async_trait]
pub trait Store: VmRepository + StorageLedger + SnapshotLedger + HistoryLog + EventLog + HostLedger {
    /// Writes all of `changes` or nothing; they are durable when it returns.
    ///
    /// A dropped future may still have written. Errors: `Exists` if the name or ID of a new VM is in use, `IdExists` if
    /// another user or host has the ID; `Conflict` if a VM is not at the expected revision or was removed; `Reverted` if an entry of the history reverts one that
    /// another one reverts; `Busy`, `Full`, `Corrupt`, `Unavailable`, `Failed`; those of
    /// servers, and in addition `ReadOnly` and `Interrupted`.
    async fn commit(&self, changes: ChangeSet) -> Result<(), StoreError>;
}
