//! A store whose failures and concurrent writes are arranged by the test.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use async_trait::async_trait;
use maqet_domain::change::{ChangeSet, StorageRecord};
use maqet_domain::event::RecordedEvent;
use maqet_domain::history::RecordedHistory;
use maqet_domain::port::{EventLog, HistoryLog, StorageLedger, Store, StoreError, VmRepository};
use maqet_domain::vm::{Vm, VmEntry, VmId, VmName};
use maqet_testkit::store::MemoryStore;

/// An in-memory store with arranged failures.
#[derive(Default)]
pub(crate) struct StagedStore {
    pub(crate) inner: MemoryStore,
    /// Whether it is read-only, as on a full disk.
    pub(crate) is_full: AtomicBool,
    /// How often a VM was read by its id.
    pub(crate) reads: AtomicU32,
    /// A write of another process just before a given read.
    pub(crate) meanwhile: Mutex<Option<(u32, ChangeSet)>>,
}

#[async_trait]
impl VmRepository for StagedStore {
    async fn by_id(&self, id: &VmId) -> Result<Option<Vm>, StoreError> {
        let read = self.reads.fetch_add(1, Ordering::Relaxed) + 1;
        let due = self.meanwhile.lock().unwrap().take_if(|(before, _)| *before <= read);
        if let Some((_, changes)) = due {
            self.inner.commit(changes).await?;
        }
        self.inner.by_id(id).await
    }

    async fn by_name(&self, name: &VmName) -> Result<Option<Vm>, StoreError> {
        self.inner.by_name(name).await
    }

    async fn by_id_prefix(&self, prefix: &str) -> Result<Vec<VmEntry>, StoreError> {
        self.inner.by_id_prefix(prefix).await
    }

    async fn list(&self) -> Result<Vec<VmEntry>, StoreError> {
        self.inner.list().await
    }
}

#[async_trait]
impl StorageLedger for StagedStore {
    async fn of_vm(&self, id: &VmId) -> Result<Vec<StorageRecord>, StoreError> {
        self.inner.of_vm(id).await
    }
}

#[async_trait]
impl HistoryLog for StagedStore {
    async fn newest(&self, limit: u32) -> Result<Vec<RecordedHistory>, StoreError> {
        self.inner.newest(limit).await
    }
}

#[async_trait]
impl EventLog for StagedStore {
    async fn after(&self, sequence: i64, limit: u32) -> Result<Vec<RecordedEvent>, StoreError> {
        self.inner.after(sequence, limit).await
    }
}

#[async_trait]
impl Store for StagedStore {
    async fn commit(&self, changes: ChangeSet) -> Result<(), StoreError> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(StoreError::Full { location: "/d/maqet.db".into() });
        }
        self.inner.commit(changes).await
    }
}
