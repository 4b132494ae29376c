//! A store that is opened when it is first used, so that what needs none works where it cannot be opened.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use maqet_domain::change::{ChangeSet, StorageRecord};
use maqet_domain::event::RecordedEvent;
use maqet_domain::history::RecordedHistory;
use maqet_domain::port::{
    EventLog, HistoryLog, KeptVm, RepairReport, StorageLedger, Store, StoreError, StoreHealth, StoreMaintenance,
    VmCopies, VmRepository,
};
use maqet_domain::vm::{Vm, VmEntry, VmId, VmName};

/// Opens the store.
pub(crate) type Opener = Box<dyn Fn() -> Result<Arc<dyn Store>, StoreError> + Send + Sync>;

/// A store that is opened at its first use.
///
/// Where there is no database, and copies of VMs say that there was one, it is not made anew: that is for the doctor.
pub(crate) struct DeferredStore {
    opener: Opener,
    opened: Mutex<Option<Arc<dyn Store>>>,
    care: Arc<dyn StoreMaintenance>,
    copies: Arc<dyn VmCopies>,
}

impl DeferredStore {
    pub(crate) fn new(opener: Opener, care: Arc<dyn StoreMaintenance>, copies: Arc<dyn VmCopies>) -> Self {
        Self { opener, opened: Mutex::new(None), care, copies }
    }

    async fn get(&self) -> Result<Arc<dyn Store>, StoreError> {
        if let Some(store) = self.slot().clone() {
            return Ok(store);
        }
        if self.care.is_absent() {
            let vms = self.copies.count().await;
            if vms > 0 {
                return Err(StoreError::Lost { location: self.care.location(), vms });
            }
        }
        let mut slot = self.slot();
        if let Some(store) = &*slot {
            return Ok(Arc::clone(store));
        }
        let store = (self.opener)()?;
        *slot = Some(Arc::clone(&store));
        Ok(store)
    }

    /// Closes the store; the next use opens it again.
    fn close(&self) {
        drop(self.slot().take());
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<dyn Store>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl VmRepository for DeferredStore {
    async fn by_id(&self, id: &VmId) -> Result<Option<Vm>, StoreError> {
        self.get().await?.by_id(id).await
    }

    async fn by_name(&self, name: &VmName) -> Result<Option<Vm>, StoreError> {
        self.get().await?.by_name(name).await
    }

    async fn by_id_prefix(&self, prefix: &str) -> Result<Vec<VmEntry>, StoreError> {
        self.get().await?.by_id_prefix(prefix).await
    }

    async fn list(&self) -> Result<Vec<VmEntry>, StoreError> {
        self.get().await?.list().await
    }
}

#[async_trait]
impl StorageLedger for DeferredStore {
    async fn of_vm(&self, id: &VmId) -> Result<Vec<StorageRecord>, StoreError> {
        self.get().await?.of_vm(id).await
    }
}

#[async_trait]
impl HistoryLog for DeferredStore {
    async fn newest(&self, limit: u32) -> Result<Vec<RecordedHistory>, StoreError> {
        self.get().await?.newest(limit).await
    }
}

#[async_trait]
impl EventLog for DeferredStore {
    async fn after(&self, sequence: i64, limit: u32) -> Result<Vec<RecordedEvent>, StoreError> {
        self.get().await?.after(sequence, limit).await
    }
}

#[async_trait]
impl Store for DeferredStore {
    async fn commit(&self, changes: ChangeSet) -> Result<(), StoreError> {
        self.get().await?.commit(changes).await
    }
}

/// Looks after the database of a deferred store, which is closed while its file is replaced.
pub(crate) struct DeferredCare {
    care: Arc<dyn StoreMaintenance>,
    store: Arc<DeferredStore>,
}

impl DeferredCare {
    pub(crate) fn new(care: Arc<dyn StoreMaintenance>, store: Arc<DeferredStore>) -> Self {
        Self { care, store }
    }
}

#[async_trait]
impl StoreMaintenance for DeferredCare {
    fn location(&self) -> String {
        self.care.location()
    }

    fn is_absent(&self) -> bool {
        self.care.is_absent()
    }

    async fn check(&self) -> Result<Option<StoreHealth>, StoreError> {
        self.care.check().await
    }

    async fn backup(&self) -> Result<PathBuf, StoreError> {
        self.care.backup().await
    }

    async fn newest_backup(&self) -> Option<PathBuf> {
        self.care.newest_backup().await
    }

    async fn repair(&self, known: Vec<KeptVm>) -> Result<RepairReport, StoreError> {
        self.store.close();
        self.care.repair(known).await
    }
}

/// Looks after a store of which nothing is known but that it is one.
pub(crate) struct PlainCare {
    name: String,
    store: Arc<dyn Store>,
}

impl PlainCare {
    pub(crate) const fn new(name: String, store: Arc<dyn Store>) -> Self {
        Self { name, store }
    }
}

/// What such a store cannot do.
#[derive(Debug, thiserror::Error)]
#[error("this kind of database has tools of its own for that")]
struct NotOurs;

#[async_trait]
impl StoreMaintenance for PlainCare {
    fn location(&self) -> String {
        self.name.clone()
    }

    fn is_absent(&self) -> bool {
        false
    }

    async fn check(&self) -> Result<Option<StoreHealth>, StoreError> {
        let vms = self.store.list().await?.len() as u64;
        let journal = String::new();
        Ok(Some(StoreHealth { schema: 0, newest_schema: 0, journal, vms, bytes: 0, unwritable: None }))
    }

    async fn backup(&self) -> Result<PathBuf, StoreError> {
        Err(StoreError::Failed { action: "back the database up", source: NotOurs.into() })
    }

    async fn newest_backup(&self) -> Option<PathBuf> {
        None
    }

    async fn repair(&self, _known: Vec<KeptVm>) -> Result<RepairReport, StoreError> {
        Err(StoreError::Failed { action: "repair the database", source: NotOurs.into() })
    }
}
