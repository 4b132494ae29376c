//! A store that keeps a copy of each VM outside of the database.

use std::sync::Arc;

use async_trait::async_trait;
use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::event::RecordedEvent;
use maqet_domain::history::RecordedHistory;
use maqet_domain::port::{EventLog, HistoryLog, KeptVm, StorageLedger, Store, StoreError, VmCopies, VmRepository};
use maqet_domain::vm::{Vm, VmEntry, VmId, VmName};

/// Writes to a store, and then a copy of every VM whose definition or storage was changed.
///
/// The store is the truth: a copy that cannot be written fails nothing, and what runs is not part of it.
pub struct CopyingStore {
    inner: Arc<dyn Store>,
    copies: Arc<dyn VmCopies>,
}

impl CopyingStore {
    /// Makes one that keeps its VMs in `inner` and their copies in `copies`.
    pub fn new(inner: Arc<dyn Store>, copies: Arc<dyn VmCopies>) -> Self {
        Self { inner, copies }
    }

    async fn copy(&self, subject: Subject) {
        let kept = match subject {
            Subject::New(vm) => Ok(Some(KeptVm { vm: *vm, storage: Vec::new() })),
            Subject::Changed(id) => kept(self.inner.as_ref(), &id).await,
        };
        let written = match kept {
            Ok(Some(kept)) => self.copies.keep(&kept).await,
            // Removed by somebody else meanwhile.
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "no copy of the VM was kept");
        }
    }
}

/// Whose copy is out of date.
enum Subject {
    New(Box<Vm>),
    Changed(VmId),
}

/// Returns the VMs whose copies `changes` makes out of date, each once.
fn subjects(changes: &ChangeSet) -> Vec<Subject> {
    let (mut new, mut others) = (Vec::new(), Vec::new());
    for change in &changes.changes {
        match change {
            Change::VmAdded(vm) => new.push(vm.clone()),
            Change::DefinitionChanged { id, .. } => others.push(*id),
            Change::StorageAdded(record) => others.extend(record.vm),
            Change::VmRemoved { .. } | Change::RunChanged { .. } => {}
        }
    }
    others.sort_unstable();
    others.dedup();
    new.retain(|vm| !others.contains(&vm.entry.id));
    new.into_iter().map(Subject::New).chain(others.into_iter().map(Subject::Changed)).collect()
}

/// Reads what is kept of a VM.
pub(crate) async fn kept(store: &dyn Store, id: &VmId) -> Result<Option<KeptVm>, StoreError> {
    let Some(vm) = store.by_id(id).await? else { return Ok(None) };
    Ok(Some(KeptVm { vm, storage: store.of_vm(id).await? }))
}

#[async_trait]
impl VmRepository for CopyingStore {
    async fn by_id(&self, id: &VmId) -> Result<Option<Vm>, StoreError> {
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
impl StorageLedger for CopyingStore {
    async fn of_vm(&self, id: &VmId) -> Result<Vec<StorageRecord>, StoreError> {
        self.inner.of_vm(id).await
    }
}

#[async_trait]
impl HistoryLog for CopyingStore {
    async fn newest(&self, limit: u32) -> Result<Vec<RecordedHistory>, StoreError> {
        self.inner.newest(limit).await
    }
}

#[async_trait]
impl EventLog for CopyingStore {
    async fn after(&self, sequence: i64, limit: u32) -> Result<Vec<RecordedEvent>, StoreError> {
        self.inner.after(sequence, limit).await
    }
}

#[async_trait]
impl Store for CopyingStore {
    async fn commit(&self, changes: ChangeSet) -> Result<(), StoreError> {
        let subjects = subjects(&changes);
        self.inner.commit(changes).await?;
        for subject in subjects {
            self.copy(subject).await;
        }
        Ok(())
    }
}
