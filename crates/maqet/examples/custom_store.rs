//! A custom store: `--database memory:` keeps the VMs in memory, for a program that needs none of them afterwards.
//!
//! Run it with `cargo run -p maqet --example custom_store`. A store writes all changes of a commit or none, and refuses
//! those that expect another revision; `maqet::domain::port` has the whole contract.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use maqet::domain::change::{Change, ChangeSet, StorageRecord};
use maqet::domain::event::RecordedEvent;
use maqet::domain::history::{HistoryEntry, HistoryQuery, RecordedHistory};
use maqet::domain::port::{
    EventLog, HistoryLog, HostLedger, SnapshotLedger, StorageLedger, Store, StoreError, VmRepository,
};
use maqet::domain::snapshot::SnapshotRecord;
use maqet::domain::vm::{Revision, Vm, VmEntry, VmId, VmName};
use maqet::operation::{Add, Events, Ls};
use maqet::{
    Document, Environment, Maqet, Overrides, Settings, StoreContext, StoreFactories, StoreFactory, StoreSetup,
};

/// Everything that a store holds.
#[derive(Debug, Clone, Default)]
struct Content {
    vms: Vec<Vm>,
    storage: Vec<StorageRecord>,
    snapshots: Vec<SnapshotRecord>,
    history: Vec<RecordedHistory>,
    events: Vec<RecordedEvent>,
}

/// A store in memory.
#[derive(Debug, Default)]
struct MemoryStore(Mutex<Content>);

impl MemoryStore {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn apply(&mut self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::VmAdded(vm) => {
                if self.vms.iter().any(|other| other.entry.name == vm.entry.name || other.entry.id == vm.entry.id) {
                    return Err(StoreError::Exists { name: vm.entry.name });
                }
                self.vms.push(*vm);
            }
            // No other host shares this store.
            Change::VmTakenOver { id, .. } => return Err(StoreError::Conflict { id }),
            Change::VmRemoved { id, expected } => {
                self.revise(id, expected)?;
                self.vms.retain(|vm| vm.entry.id != id);
                self.snapshots.retain(|record| record.vm != id);
                for record in self.storage.iter_mut().filter(|record| record.vm == Some(id)) {
                    record.vm = None;
                }
            }
            Change::DefinitionChanged { id, expected, definition, origins } => {
                let vm = self.revise(id, expected)?;
                (vm.definition, vm.origins) = (definition, origins);
            }
            Change::RunChanged { id, expected, run } => self.revise(id, expected)?.entry.run = run,
            Change::PendingChanged { id, expected, pending } => self.revise(id, expected)?.entry.pending = pending,
            Change::LayersChanged { id, expected, layers } => self.revise(id, expected)?.entry.layers = layers,
            Change::SnapshotAdded(record) => {
                self.require(record.vm)?;
                self.remove_snapshot(record.vm, &record.drive, &record.tag);
                self.snapshots.push(*record);
            }
            Change::SnapshotRemoved { vm, drive, tag } => self.remove_snapshot(vm, &drive, &tag),
            Change::StorageAdded(record) => {
                record.vm.map_or(Ok(()), |id| self.require(id))?;
                let is_other = |other: &StorageRecord| other.path != record.path;
                self.storage.retain(|other| is_other(other) || (!record.is_created() && other.vm.is_some()));
                if self.storage.iter().all(is_other) {
                    self.storage.push(record);
                }
            }
            Change::StorageRemoved { path } => self.storage.retain(|record| record.path != path),
            // For other hosts.
            Change::ImagesUsed { .. } => {}
        }
        Ok(())
    }

    /// Adds an entry of the history, and removes the oldest above `limit`.
    fn remember(&mut self, entry: HistoryEntry, limit: Option<u32>) -> Result<(), StoreError> {
        if let Some(sequence) = entry.reverts
            && self.history.iter().any(|other| other.entry.reverts == Some(sequence))
        {
            return Err(StoreError::Reverted { sequence });
        }
        let sequence = self.history.last().map_or(1, |last| last.sequence.saturating_add(1));
        self.history.push(RecordedHistory { sequence, entry });
        let excess = limit.map_or(0, |limit| self.history.len().saturating_sub(limit as usize));
        self.history.drain(..excess);
        Ok(())
    }

    /// Returns a VM that is at the expected revision, which grows by one.
    fn revise(&mut self, id: VmId, expected: Revision) -> Result<&mut Vm, StoreError> {
        let vm = self.vms.iter_mut().find(|vm| vm.entry.id == id && vm.entry.revision == expected);
        let vm = vm.ok_or(StoreError::Conflict { id })?;
        vm.entry.revision = expected.next();
        Ok(vm)
    }

    fn require(&self, id: VmId) -> Result<(), StoreError> {
        if self.vms.iter().any(|vm| vm.entry.id == id) { Ok(()) } else { Err(StoreError::Conflict { id }) }
    }

    fn remove_snapshot(&mut self, vm: VmId, drive: &str, tag: &str) {
        self.snapshots.retain(|record| record.vm != vm || record.drive != drive || record.tag != tag);
    }
}

#[async_trait]
impl VmRepository for MemoryStore {
    async fn by_id(&self, id: &VmId) -> Result<Option<Vm>, StoreError> {
        Ok(self.content().vms.iter().find(|vm| vm.entry.id == *id).cloned())
    }

    async fn by_name(&self, name: &VmName) -> Result<Option<Vm>, StoreError> {
        Ok(self.content().vms.iter().find(|vm| vm.entry.name == *name).cloned())
    }

    async fn by_id_prefix(&self, prefix: &str) -> Result<Vec<VmEntry>, StoreError> {
        let digits = prefix.to_lowercase().replace('-', "");
        let mut found = self.list().await?;
        found.retain(|entry| entry.id.to_string().replace('-', "").starts_with(&digits));
        found.sort_by_key(|entry| entry.id);
        Ok(found)
    }

    async fn list(&self) -> Result<Vec<VmEntry>, StoreError> {
        let mut entries: Vec<VmEntry> = self.content().vms.iter().map(|vm| vm.entry.clone()).collect();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }
}

#[async_trait]
impl StorageLedger for MemoryStore {
    async fn storage_of_vm(&self, id: &VmId) -> Result<Vec<StorageRecord>, StoreError> {
        Ok(self.content().storage.iter().filter(|record| record.vm == Some(*id)).cloned().collect())
    }

    async fn storage_without_vm(&self) -> Result<Vec<StorageRecord>, StoreError> {
        Ok(self.content().storage.iter().filter(|record| record.vm.is_none()).cloned().collect())
    }

    async fn all_storage(&self) -> Result<Vec<StorageRecord>, StoreError> {
        Ok(self.content().storage.clone())
    }

    async fn storage_at(&self, path: &Path) -> Result<Option<StorageRecord>, StoreError> {
        Ok(self.content().storage.iter().find(|record| record.path == path).cloned())
    }
}

#[async_trait]
impl SnapshotLedger for MemoryStore {
    async fn snapshots_of_vm(&self, id: &VmId) -> Result<Vec<SnapshotRecord>, StoreError> {
        let content = self.content();
        let mut records: Vec<_> = content.snapshots.iter().filter(|record| record.vm == *id).cloned().collect();
        records.sort_by(|one, other| (&one.drive, &one.tag).cmp(&(&other.drive, &other.tag)));
        Ok(records)
    }
}

#[async_trait]
impl HistoryLog for MemoryStore {
    async fn history(&self, query: &HistoryQuery) -> Result<Vec<RecordedHistory>, StoreError> {
        let content = self.content();
        let found = content.history.iter().rev().filter(|recorded| query.matches(recorded));
        Ok(found.take(query.limit as usize).cloned().collect())
    }

    async fn is_reverted(&self, sequence: i64) -> Result<bool, StoreError> {
        Ok(self.content().history.iter().any(|recorded| recorded.entry.reverts == Some(sequence)))
    }
}

#[async_trait]
impl EventLog for MemoryStore {
    async fn events_after(&self, sequence: i64, limit: u32) -> Result<Vec<RecordedEvent>, StoreError> {
        let content = self.content();
        let later = content.events.iter().filter(|event| event.sequence > sequence);
        Ok(later.take(limit as usize).cloned().collect())
    }
}

/// It is not shared.
impl HostLedger for MemoryStore {}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, changes: ChangeSet) -> Result<(), StoreError> {
        let mut content = self.content();
        // A change that is refused leaves no trace of those before it.
        let mut after = content.clone();
        changes.changes.into_iter().try_for_each(|change| after.apply(change))?;
        if let Some(entry) = changes.history {
            after.remember(entry, changes.history_limit)?;
        }
        for event in changes.events {
            let sequence = i64::try_from(after.events.len()).unwrap_or(i64::MAX).saturating_add(1);
            after.events.push(RecordedEvent { sequence, host: None, event });
        }
        *content = after;
        Ok(())
    }
}

/// Opens `memory:`.
struct MemoryFactory;

#[async_trait]
impl StoreFactory for MemoryFactory {
    async fn open(&self, _: &str, _: StoreContext) -> Result<StoreSetup, StoreError> {
        Ok(StoreSetup::new(Arc::new(MemoryStore::default())))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let overrides = Overrides {
        data_dir: Some(folder.path().into()),
        database: Some("memory:".to_owned()),
        ..Overrides::default()
    };
    let settings = Settings::discover(&Environment::from_process(), &overrides)?;
    let mut stores = StoreFactories::default();
    stores.register("memory", Arc::new(MemoryFactory))?;
    let maqet = Maqet::builder(settings).stores(stores).open().await?;

    let document = Document::new("web.yaml", folder.path(), "name: web\nmemory: 256M\n".to_owned());
    maqet.run(Add::new(vec![document])).await?;
    for vm in maqet.run(Ls::default()).await? {
        println!("{} is {}", vm.name, vm.status);
    }
    for event in maqet.run(Events::of_vm("web")).await?.events {
        println!("{}", event.kind);
    }
    assert!(!folder.path().join("maqet.db").exists());
    Ok(())
}
