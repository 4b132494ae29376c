//! The store ports on SQLite: each method is a job for the owner of the connection, a list a few.

use std::future::poll_fn;
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use maqet_domain::change::{ChangeSet, StorageRecord};
use maqet_domain::event::RecordedEvent;
use maqet_domain::history::RecordedHistory;
use maqet_domain::port::{EventLog, HistoryLog, StorageLedger, Store, StoreError, VmRepository};
use maqet_domain::vm::{Vm, VmEntry, VmId, VmName};
use maqet_fault_points::FaultPoints;
use rusqlite::Connection;

use crate::database::Database;
use crate::owner::Owner;
use crate::{limits, read};

/// Lets the other tasks of this thread go on, on whatever runtime.
async fn let_others_work() {
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

/// How a store behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a job waits for other processes before it is `Busy`.
    pub patience: Duration,
    /// Who is told of its steps.
    pub faults: FaultPoints,
}

impl Default for Options {
    fn default() -> Self {
        Self { patience: limits::PATIENCE, faults: FaultPoints::default() }
    }
}

/// A store in one SQLite file, shared with any number of processes.
///
/// Its methods work on every async runtime. A dropped future is carried out all the same; a dropped store finishes
/// what it was asked before it closes the file.
#[derive(Debug)]
pub struct SqliteStore {
    owner: Owner,
}

impl SqliteStore {
    /// Opens the database at `path`, making it (0600, a missing folder 0700) where nothing is.
    ///
    /// Where the file, its folder or its disk cannot be written, reads work and a commit says why it does not.
    /// Errors: `Corrupt` for what is damaged, empty or another program's, `NewerSchema`, `Busy`, `Full`, and
    /// `Unavailable` for what cannot be opened, symbolic links among them.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, Options::default())
    }

    /// Opens the database at `path` as [`open`](Self::open) does, with options.
    pub fn open_with(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let database = Database::open(path.as_ref(), options)?;
        Ok(Self { owner: Owner::new(database) })
    }
}

#[async_trait]
impl VmRepository for SqliteStore {
    async fn by_id(&self, id: &VmId) -> Result<Option<Vm>, StoreError> {
        const ACTION: &str = "read a VM";
        let id = *id;
        self.owner.read_few(ACTION, move |sql| read::vm_by_id(sql, id)).await
    }

    async fn by_name(&self, name: &VmName) -> Result<Option<Vm>, StoreError> {
        const ACTION: &str = "read a VM";
        let name = name.clone();
        self.owner.read_few(ACTION, move |sql| read::vm_by_name(sql, &name)).await
    }

    async fn by_id_prefix(&self, prefix: &str) -> Result<Vec<VmEntry>, StoreError> {
        const ACTION: &str = "look for VMs";
        let prefix = prefix.to_owned();
        self.owner.read_few(ACTION, move |sql| read::entries_by_id_prefix(sql, &prefix)).await
    }

    async fn list(&self) -> Result<Vec<VmEntry>, StoreError> {
        const ACTION: &str = "list the VMs";
        let mut entries: Vec<VmEntry> = Vec::new();
        loop {
            let last = entries.last().map(|entry| entry.name.clone());
            let work = move |sql: &Connection| read::entries_after(sql, last.as_ref(), limits::PIECE);
            let piece = self.owner.read_few(ACTION, work).await?;
            let is_last = piece.len() < limits::PIECE as usize;
            entries.extend(piece);
            if is_last {
                return Ok(entries);
            }
            let_others_work().await;
        }
    }
}

#[async_trait]
impl StorageLedger for SqliteStore {
    async fn of_vm(&self, id: &VmId) -> Result<Vec<StorageRecord>, StoreError> {
        const ACTION: &str = "read the storage of a VM";
        let id = *id;
        self.owner.read_few(ACTION, move |sql| read::storage(sql, id)).await
    }
}

#[async_trait]
impl HistoryLog for SqliteStore {
    async fn newest(&self, limit: u32) -> Result<Vec<RecordedHistory>, StoreError> {
        const ACTION: &str = "read the history";
        self.owner.run(ACTION, move |database| database.read(ACTION, |sql| read::history(sql, limit))).await
    }
}

#[async_trait]
impl EventLog for SqliteStore {
    async fn after(&self, sequence: i64, limit: u32) -> Result<Vec<RecordedEvent>, StoreError> {
        const ACTION: &str = "read the events";
        self.owner.run(ACTION, move |database| database.read(ACTION, |sql| read::events(sql, sequence, limit))).await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, changes: ChangeSet) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.owner.run("write to the database", move |database| database.commit(&changes)).await
    }
}
