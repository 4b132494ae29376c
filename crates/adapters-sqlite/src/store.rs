//! The store ports on SQLite: each method is a task of the worker, a list a few.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::task::Poll;

use async_trait::async_trait;
use maqet_domain::change::{ChangeSet, StorageRecord};
use maqet_domain::event::RecordedEvent;
use maqet_domain::history::{HistoryQuery, RecordedHistory};
use maqet_domain::port::{
    EventLog, HistoryLog, HostLedger, SnapshotLedger, StorageLedger, Store, StoreError, VmCopies, VmRepository,
};
use maqet_domain::snapshot::SnapshotRecord;
use maqet_domain::vm::{Vm, VmEntry, VmId, VmName};
use rusqlite::Connection;

use crate::database::{LazyDatabase, Options};
use crate::maintenance::SqliteMaintenance;
use crate::worker::ConnectionWorker;
use crate::{limits, read};

/// A store in one SQLite file, shared with any number of processes.
///
/// Its methods work on every async runtime. A call whose future is dropped is carried out all the same; a store that is
/// dropped finishes what is queued and closes the file.
pub struct SqliteStore {
    worker: ConnectionWorker,
    path: PathBuf,
    copies: Option<Arc<dyn VmCopies>>,
}

impl SqliteStore {
    /// Uses the database at `path`, which is opened by the first call and created (0600, a missing folder 0700) if there
    /// is none.
    ///
    /// Where the file, its folder or its disk cannot be written, reads work and a commit fails. Opening fails with
    /// `Corrupt` for a file that is damaged, empty or of another program, with `UnsupportedSchema`, `Busy`, `Full`, and
    /// with `Unavailable` for a file that cannot be opened or is a symbolic link; the next call tries again.
    pub fn new(path: impl Into<PathBuf>, options: Options) -> Self {
        let path = path.into();
        Self { worker: ConnectionWorker::new(LazyDatabase::new(path.clone(), options)), path, copies: None }
    }

    /// Opens the database at `path` now.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, Options::default())
    }

    /// Opens the database at `path` now, with options.
    pub fn open_with(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let store = Self::new(path.as_ref(), options);
        store.worker.database().lock().unwrap_or_else(PoisonError::into_inner).get()?;
        Ok(store)
    }

    /// Does not create a missing database while there are copies of its VMs: calls fail with `NotFound` until it is
    /// repaired.
    #[must_use]
    pub fn with_copies(self, copies: Arc<dyn VmCopies>) -> Self {
        Self { copies: Some(copies), ..self }
    }

    /// Returns what maintains this database; the store closes it while its file is replaced.
    pub fn maintenance(&self) -> SqliteMaintenance {
        SqliteMaintenance::from_store(self.path.clone(), self.worker.database())
    }

    /// Returns the worker, unless the database is lost.
    async fn worker(&self) -> Result<&ConnectionWorker, StoreError> {
        if let Some(copies) = &self.copies
            && !self.worker.is_open()
            && is_absent(&self.path)
        {
            let vms = copies.count().await;
            if vms > 0 {
                return Err(StoreError::NotFound { location: self.path.display().to_string(), vms });
            }
        }
        Ok(&self.worker)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Returns whether there is no file; any other error is reported when it is opened.
fn is_absent(path: &Path) -> bool {
    matches!(std::fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Gives the other async tasks of this thread a turn, on any runtime.
async fn yield_now() {
    let mut had_turn = false;
    poll_fn(|context| {
        if had_turn {
            return Poll::Ready(());
        }
        had_turn = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[async_trait]
impl VmRepository for SqliteStore {
    async fn by_id(&self, id: &VmId) -> Result<Option<Vm>, StoreError> {
        let id = *id;
        self.worker().await?.read_few("read a VM", move |sql| read::vm_by_id(sql, id)).await
    }

    async fn by_name(&self, name: &VmName) -> Result<Option<Vm>, StoreError> {
        let name = name.clone();
        self.worker().await?.read_few("read a VM", move |sql| read::vm_by_name(sql, &name)).await
    }

    async fn by_id_prefix(&self, prefix: &str) -> Result<Vec<VmEntry>, StoreError> {
        let prefix = prefix.to_owned();
        self.worker().await?.read_few("find VMs by id", move |sql| read::entries_by_id_prefix(sql, &prefix)).await
    }

    async fn list(&self) -> Result<Vec<VmEntry>, StoreError> {
        let mut entries: Vec<VmEntry> = Vec::new();
        loop {
            let last = entries.last().map(|entry| entry.name.clone());
            let query = move |sql: &Connection| read::entries_after(sql, last.as_ref(), limits::LIST_CHUNK);
            let chunk = self.worker().await?.read_few("list the VMs", query).await?;
            let is_last = chunk.len() < limits::LIST_CHUNK as usize;
            entries.extend(chunk);
            if is_last {
                return Ok(entries);
            }
            yield_now().await;
        }
    }

    async fn vms(&self) -> Result<Vec<Vm>, StoreError> {
        let mut vms: Vec<Vm> = Vec::new();
        loop {
            let last = vms.last().map(|vm| vm.entry.name.clone());
            let query = move |sql: &Connection| read::vms_after(sql, last.as_ref(), limits::VM_CHUNK);
            let chunk = self.worker().await?.read_few("read all VMs", query).await?;
            let is_last = chunk.len() < limits::VM_CHUNK as usize;
            vms.extend(chunk);
            if is_last {
                return Ok(vms);
            }
            yield_now().await;
        }
    }
}

#[async_trait]
impl StorageLedger for SqliteStore {
    async fn storage_of_vm(&self, id: &VmId) -> Result<Vec<StorageRecord>, StoreError> {
        let id = *id;
        self.worker().await?.read_few("read the storage of a VM", move |sql| read::storage(sql, id)).await
    }

    async fn storage_without_vm(&self) -> Result<Vec<StorageRecord>, StoreError> {
        self.worker().await?.read("read the storage of removed VMs", read::storage_without_vm).await
    }

    async fn all_storage(&self) -> Result<Vec<StorageRecord>, StoreError> {
        self.worker().await?.read("read the storage of all VMs", read::all_storage).await
    }

    async fn storage_at(&self, path: &Path) -> Result<Option<StorageRecord>, StoreError> {
        let path = path.to_owned();
        self.worker().await?.read_few("read the storage of a file", move |sql| read::storage_at(sql, &path)).await
    }
}

#[async_trait]
impl SnapshotLedger for SqliteStore {
    async fn snapshots_of_vm(&self, id: &VmId) -> Result<Vec<SnapshotRecord>, StoreError> {
        let id = *id;
        self.worker().await?.read_few("read the snapshots of a VM", move |sql| read::snapshots(sql, id)).await
    }
}

#[async_trait]
impl HistoryLog for SqliteStore {
    async fn history(&self, query: &HistoryQuery) -> Result<Vec<RecordedHistory>, StoreError> {
        let query = query.clone();
        self.worker().await?.read("read the history", move |sql| read::history(sql, &query)).await
    }

    async fn is_reverted(&self, sequence: i64) -> Result<bool, StoreError> {
        self.worker().await?.read("read the history", move |sql| read::is_reverted(sql, sequence)).await
    }
}

#[async_trait]
impl EventLog for SqliteStore {
    async fn events_after(&self, sequence: i64, limit: u32) -> Result<Vec<RecordedEvent>, StoreError> {
        self.worker().await?.read("read the events", move |sql| read::events(sql, sequence, limit)).await
    }
}

/// A file is not shared by hosts.
impl HostLedger for SqliteStore {}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, changes: ChangeSet) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.worker().await?.run("write to the database", move |database| database.commit(&changes)).await
    }
}
