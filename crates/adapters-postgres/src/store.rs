//! The store ports on PostgreSQL.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join3;
use maqet_domain::change::{ChangeSet, StorageRecord, UsedImage};
use maqet_domain::event::RecordedEvent;
use maqet_domain::history::{HistoryQuery, RecordedHistory};
use maqet_domain::port::{
    EventLog, ForeignVm, HistoryLog, HostLedger, HostRecord, SnapshotLedger, StorageLedger, Store, StoreError,
    VmCopies, VmCopy, VmRepository,
};
use maqet_domain::snapshot::SnapshotRecord;
use maqet_domain::vm::{Vm, VmEntry, VmId, VmName};
use maqet_fault_points::FaultPoints;

use crate::error::Failure;
use crate::identity::Identity;
use crate::limits::Timeouts;
use crate::listener::{Listener, News, Reading};
use crate::maintenance::PostgresMaintenance;
use crate::pool::{Pool, discard};
use crate::read::{self, Query};
use crate::transfer::PostgresTransfer;
use crate::url::PostgresUrl;
use crate::{moves, transaction, write};

/// The VMs of one user of one host in a PostgreSQL database, which other users and hosts share.
///
/// It needs a tokio runtime with I/O and time. A call whose future is dropped may still be carried out, as a whole or not
/// at all.
pub struct PostgresStore {
    pool: Arc<Pool>,
    identity: Arc<Identity>,
    faults: FaultPoints,
    listener: Listener,
}

impl PostgresStore {
    /// Uses the database of `url`, to which the first call connects; it creates the tables if there are none.
    ///
    /// With `copies`, it does not create them while there are copies of VMs: calls fail with `NotFound` until the
    /// database is repaired.
    pub fn new(url: PostgresUrl, identity: Identity, copies: Option<Arc<dyn VmCopies>>) -> Self {
        Self::with_timeouts(url, identity, copies, Timeouts::default())
    }

    /// Uses the database of `url` with timeouts of the caller's choice.
    pub fn with_timeouts(
        url: PostgresUrl,
        identity: Identity,
        copies: Option<Arc<dyn VmCopies>>,
        timeouts: Timeouts,
    ) -> Self {
        let identity = Arc::new(identity);
        let pool = Arc::new(Pool::new(url, Arc::clone(&identity), copies, timeouts));
        Self { pool, identity, faults: FaultPoints::default(), listener: Listener::default() }
    }

    /// Kills the process at fault points, for tests.
    #[must_use]
    pub fn with_fault_points(self, faults: FaultPoints) -> Self {
        Self { faults, ..self }
    }

    /// Returns what maintains this database.
    pub fn maintenance(&self) -> PostgresMaintenance {
        PostgresMaintenance::new(Arc::clone(&self.pool), Arc::clone(&self.identity))
    }

    /// Returns what moves all that the database holds of this identity.
    pub fn transfer(&self) -> PostgresTransfer {
        PostgresTransfer::new(Arc::clone(&self.pool), Arc::clone(&self.identity), self.faults.clone())
    }

    /// Returns the rows of a query.
    async fn read<T>(&self, action: &'static str, query: Query<T>) -> Result<Vec<T>, StoreError> {
        let read = match self.try_read(&query).await {
            // The server was restarted since the connection was last used; another one may work.
            Err(failure) if failure.is_lost_connection() => self.try_read(&query).await,
            read => read,
        };
        read.map_err(|failure| self.error(action, failure))
    }

    async fn try_read<T>(&self, query: &Query<T>) -> Result<Vec<T>, Failure> {
        let connection = self.pool.get().await?;
        // All are sent at once, in this order, and answered together. What a move took away is not taken for removed, as it
        // goes together with the mark, which is read later.
        let location = self.pool.url().recorded();
        let (_not_critical, rows, in_use) = join3(
            self.pool.show_life(&connection, &self.identity),
            self.pool.reply(read::rows(&connection, query)),
            self.pool.reply(moves::require_in_use(&connection, &self.identity, location)),
        )
        .await;
        // What a newer version has changed may be why the rows cannot be read.
        let read = match (rows, in_use) {
            (rows, Ok(())) => rows,
            (Err(failure), Err(other)) if !matches!(other, Failure::Store(_)) => Err(failure),
            (_, Err(refused)) => Err(refused),
        };
        if matches!(read, Err(Failure::TimedOut(_))) {
            // A late reply would be that of the next query.
            discard(connection);
        }
        read
    }

    /// Subscribes to notifications; without them, the server is asked each time.
    async fn subscribe(&self) {
        let news = Arc::new(News::default());
        if let Ok(client) = self.pool.subscribe(Arc::clone(&news)).await {
            self.listener.subscribe(client, news);
        }
    }

    fn error(&self, action: &'static str, failure: Failure) -> StoreError {
        failure.into_store(self.pool.url().location(), action)
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("location", &self.pool.url().location()).finish_non_exhaustive()
    }
}

#[async_trait]
impl VmRepository for PostgresStore {
    async fn by_id(&self, id: &VmId) -> Result<Option<Vm>, StoreError> {
        Ok(self.read("read a VM", read::vm_by_id(*id, &self.identity)).await?.pop())
    }

    async fn by_name(&self, name: &VmName) -> Result<Option<Vm>, StoreError> {
        Ok(self.read("read a VM", read::vm_by_name(name, &self.identity)).await?.pop())
    }

    async fn by_id_prefix(&self, prefix: &str) -> Result<Vec<VmEntry>, StoreError> {
        match read::entries_by_id_prefix(prefix, &self.identity) {
            Some(query) => self.read("find VMs by id", query).await,
            None => Ok(Vec::new()),
        }
    }

    async fn list(&self) -> Result<Vec<VmEntry>, StoreError> {
        self.read("list the VMs", read::entries(&self.identity)).await
    }

    async fn vms(&self) -> Result<Vec<Vm>, StoreError> {
        self.read("read all VMs", read::vms(&self.identity)).await
    }
}

#[async_trait]
impl HostLedger for PostgresStore {
    async fn foreign(&self) -> Result<Vec<ForeignVm>, StoreError> {
        self.read("list the VMs of others", read::foreign(&self.identity)).await
    }

    async fn foreign_vm(&self, id: &VmId) -> Result<Option<VmCopy>, StoreError> {
        let Some(vm) = self.read("read a VM of others", read::foreign_vm(*id, &self.identity)).await?.pop() else {
            return Ok(None);
        };
        let storage = self.read("read the storage of a VM", read::foreign_storage(*id, &self.identity)).await?;
        Ok(Some(VmCopy::new(vm, storage)))
    }

    async fn foreign_images(&self, id: &VmId) -> Result<Vec<UsedImage>, StoreError> {
        let images = self.read("read the images of a VM", read::foreign_images(*id, &self.identity)).await?.pop();
        Ok(images.unwrap_or_default())
    }

    async fn hosts(&self) -> Result<Vec<HostRecord>, StoreError> {
        self.read("list the hosts", read::hosts()).await
    }

    async fn show_life(&self) {
        if let Ok(connection) = self.pool.get().await {
            self.pool.show_life(&connection, &self.identity).await;
            // A late reply would be that of the next query.
            discard(connection);
        }
    }
}

#[async_trait]
impl StorageLedger for PostgresStore {
    async fn storage_of_vm(&self, id: &VmId) -> Result<Vec<StorageRecord>, StoreError> {
        self.read("read the storage of a VM", read::storage(*id, &self.identity)).await
    }

    async fn storage_without_vm(&self) -> Result<Vec<StorageRecord>, StoreError> {
        self.read("read the storage of removed VMs", read::storage_without_vm(&self.identity)).await
    }

    async fn all_storage(&self) -> Result<Vec<StorageRecord>, StoreError> {
        self.read("read the storage of all VMs", read::all_storage(&self.identity)).await
    }

    async fn storage_at(&self, path: &Path) -> Result<Option<StorageRecord>, StoreError> {
        Ok(self.read("read the storage of a file", read::storage_at(path, &self.identity)).await?.pop())
    }
}

#[async_trait]
impl SnapshotLedger for PostgresStore {
    async fn snapshots_of_vm(&self, id: &VmId) -> Result<Vec<SnapshotRecord>, StoreError> {
        self.read("read the snapshots of a VM", read::snapshots(*id)).await
    }
}

#[async_trait]
impl HistoryLog for PostgresStore {
    async fn history(&self, query: &HistoryQuery) -> Result<Vec<RecordedHistory>, StoreError> {
        self.read("read the history", read::history(query, &self.identity)).await
    }

    async fn is_reverted(&self, sequence: i64) -> Result<bool, StoreError> {
        Ok(!self.read("read the history", read::reverting(sequence)).await?.is_empty())
    }
}

#[async_trait]
impl EventLog for PostgresStore {
    async fn events_after(&self, sequence: i64, limit: u32) -> Result<Vec<RecordedEvent>, StoreError> {
        match self.listener.begin(sequence) {
            Reading::Unneeded => return Ok(Vec::new()),
            Reading::Needed => {}
            Reading::Repeated => self.subscribe().await,
        }
        let events = self.read("read the events", read::events(sequence, limit)).await?;
        if events.is_empty() {
            self.listener.found_none(sequence);
        }
        Ok(events)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn commit(&self, changes: ChangeSet) -> Result<(), StoreError> {
        const ACTION: &str = "write to the database";

        if changes.is_empty() {
            return Ok(());
        }
        let statements = write::statements(&changes, &self.identity).map_err(|failure| self.error(ACTION, failure))?;
        let committed = transaction::commit(&self.pool, &statements, &self.identity, &self.faults).await;
        if !changes.events.is_empty() {
            self.listener.wrote();
        }
        match committed.map_err(|failure| self.error(ACTION, failure)) {
            // Its own VM was added meanwhile.
            Err(StoreError::IdExists { id, name }) if self.by_id(&id).await?.is_some() => {
                Err(StoreError::Exists { name })
            }
            committed => committed,
        }
    }
}
