//! A store in memory: real code under the contract of the ports, without a file.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::event::RecordedEvent;
use maqet_domain::history::{HistoryEntry, HistoryQuery, RecordedHistory};
use maqet_domain::port::{
    EventLog, HistoryLog, HostLedger, SnapshotLedger, StorageLedger, Store, StoreError, VmRepository,
};
use maqet_domain::snapshot::SnapshotRecord;
use maqet_domain::vm::{Revision, Vm, VmEntry, VmId, VmName};

/// A store in memory; its clones share one content, as two processes share one database.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    content: Arc<Mutex<Content>>,
    arranged: Arc<Mutex<Arranged>>,
}

/// What a test arranged to happen.
#[derive(Debug, Default)]
struct Arranged {
    is_full: bool,
    /// Changes of another process, and before which read of a VM by its ID they are committed.
    pending: Option<(u32, ChangeSet)>,
    /// How often a command recorded that its host is there.
    signs_of_life: u32,
}

#[derive(Debug, Clone, Default)]
struct Content {
    vms: Vec<Vm>,
    storage: Vec<StorageRecord>,
    snapshots: Vec<SnapshotRecord>,
    history: Vec<RecordedHistory>,
    events: Vec<RecordedEvent>,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether commits fail, as on a full disk.
    pub fn set_full(&self, is_full: bool) {
        self.arranged().is_full = is_full;
    }

    /// Commits `changes` just before the `read`th read of a VM by its ID from now on, as another process would.
    pub fn commit_before_read(&self, read: u32, changes: ChangeSet) {
        self.arranged().pending = Some((read, changes));
    }

    /// Returns whether the changes of [`commit_before_read`](Self::commit_before_read) are not committed yet.
    #[must_use]
    pub fn is_commit_pending(&self) -> bool {
        self.arranged().pending.is_some()
    }

    /// Returns how often a command recorded that its host is there.
    #[must_use]
    pub fn signs_of_life(&self) -> u32 {
        self.arranged().signs_of_life
    }

    fn arranged(&self) -> MutexGuard<'_, Arranged> {
        self.arranged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a read of a VM by its ID; returns the changes that are due before it.
    fn due(&self) -> Option<ChangeSet> {
        let mut arranged = self.arranged();
        let (reads, _) = arranged.pending.as_mut()?;
        *reads = reads.saturating_sub(1);
        arranged.pending.take_if(|(reads, _)| *reads == 0).map(|(_, changes)| changes)
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        // A commit replaces the whole content, so that a panic leaves no part of one.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn apply(&mut self, change: Change) -> Result<(), StoreError> {
        match change {
            Change::VmAdded(vm) => self.add(*vm)?,
            // No other host shares this store.
            Change::VmTakenOver { id, .. } => return Err(StoreError::Conflict { id }),
            Change::VmRemoved { id, expected } => {
                let at = self.position(id, expected)?;
                self.vms.remove(at);
                self.snapshots.retain(|record| record.vm != id);
                for record in self.storage.iter_mut().filter(|record| record.vm == Some(id)) {
                    record.vm = None;
                }
            }
            Change::DefinitionChanged { id, expected, definition, origins } => {
                let at = self.position(id, expected)?;
                let vm = &mut self.vms[at];
                vm.definition = definition;
                vm.origins = origins;
                vm.entry.revision = expected.next();
            }
            Change::RunChanged { id, expected, run } => {
                let at = self.position(id, expected)?;
                let entry = &mut self.vms[at].entry;
                entry.run = run;
                entry.revision = expected.next();
            }
            Change::PendingChanged { id, expected, pending } => {
                let at = self.position(id, expected)?;
                let entry = &mut self.vms[at].entry;
                entry.pending = pending;
                entry.revision = expected.next();
            }
            Change::LayersChanged { id, expected, layers } => {
                let at = self.position(id, expected)?;
                let entry = &mut self.vms[at].entry;
                entry.layers = layers;
                entry.revision = expected.next();
            }
            Change::SnapshotAdded(record) => {
                self.require_vm(record.vm)?;
                self.remove_snapshot(record.vm, &record.drive, &record.tag);
                self.snapshots.push(*record);
            }
            Change::SnapshotRemoved { vm, drive, tag } => self.remove_snapshot(vm, &drive, &tag),
            Change::StorageAdded(record) => self.record(record)?,
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
        let excess = self.history.len().saturating_sub(limit.map_or(usize::MAX, at_most));
        self.history.drain(..excess);
        Ok(())
    }

    fn add(&mut self, vm: Vm) -> Result<(), StoreError> {
        let taken = |other: &Vm| other.entry.name == vm.entry.name || other.entry.id == vm.entry.id;
        if self.vms.iter().any(taken) {
            return Err(StoreError::Exists { name: vm.entry.name });
        }
        self.vms.push(vm);
        Ok(())
    }

    fn record(&mut self, record: StorageRecord) -> Result<(), StoreError> {
        if let Some(id) = record.vm {
            self.require_vm(id)?;
        }
        let is_kept = |other: &StorageRecord| other.path != record.path || (!record.is_created() && other.vm.is_some());
        self.storage.retain(is_kept);
        if self.storage.iter().any(|other| other.path == record.path) {
            return Ok(());
        }
        self.storage.push(record);
        Ok(())
    }

    fn require_vm(&self, id: VmId) -> Result<(), StoreError> {
        if self.vms.iter().any(|vm| vm.entry.id == id) { Ok(()) } else { Err(StoreError::Conflict { id }) }
    }

    fn remove_snapshot(&mut self, vm: VmId, drive: &str, tag: &str) {
        self.snapshots.retain(|record| record.vm != vm || record.drive != drive || record.tag != tag);
    }

    fn position(&self, id: VmId, expected: Revision) -> Result<usize, StoreError> {
        let is_meant = |vm: &Vm| vm.entry.id == id && vm.entry.revision == expected;
        self.vms.iter().position(is_meant).ok_or(StoreError::Conflict { id })
    }

    fn entries(&self) -> Vec<VmEntry> {
        self.vms.iter().map(|vm| vm.entry.clone()).collect()
    }
}

/// Returns the sequence number of the next entry in a log of `length` entries.
fn next_sequence(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX).saturating_add(1)
}

fn at_most(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[async_trait]
impl VmRepository for MemoryStore {
    async fn by_id(&self, id: &VmId) -> Result<Option<Vm>, StoreError> {
        if let Some(changes) = self.due() {
            self.commit(changes).await?;
        }
        Ok(self.content().vms.iter().find(|vm| vm.entry.id == *id).cloned())
    }

    async fn by_name(&self, name: &VmName) -> Result<Option<Vm>, StoreError> {
        Ok(self.content().vms.iter().find(|vm| vm.entry.name == *name).cloned())
    }

    async fn by_id_prefix(&self, prefix: &str) -> Result<Vec<VmEntry>, StoreError> {
        let prefix = prefix.to_ascii_lowercase();
        let mut entries = self.content().entries();
        entries.retain(|entry| {
            let hyphenated = entry.id.to_string();
            hyphenated.starts_with(&prefix) || hyphenated.replace('-', "").starts_with(&prefix)
        });
        entries.sort_by_key(|entry| entry.id);
        Ok(entries)
    }

    async fn list(&self) -> Result<Vec<VmEntry>, StoreError> {
        let mut entries = self.content().entries();
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
        let mut records: Vec<SnapshotRecord> =
            content.snapshots.iter().filter(|record| record.vm == *id).cloned().collect();
        records.sort_by(|one, other| (&one.drive, &one.tag).cmp(&(&other.drive, &other.tag)));
        Ok(records)
    }
}

#[async_trait]
impl HistoryLog for MemoryStore {
    async fn history(&self, query: &HistoryQuery) -> Result<Vec<RecordedHistory>, StoreError> {
        let content = self.content();
        let found = content.history.iter().rev().filter(|recorded| query.matches(recorded));
        Ok(found.take(at_most(query.limit)).cloned().collect())
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
        Ok(later.take(at_most(limit)).cloned().collect())
    }
}

/// It is not shared.
#[async_trait]
impl HostLedger for MemoryStore {
    async fn show_life(&self) {
        self.arranged().signs_of_life += 1;
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, changes: ChangeSet) -> Result<(), StoreError> {
        if self.arranged().is_full {
            return Err(StoreError::Full { location: "memory".to_owned() });
        }
        let mut content = self.content();
        let mut after = content.clone();
        for change in changes.changes {
            after.apply(change)?;
        }
        if let Some(entry) = changes.history {
            after.remember(entry, changes.history_limit)?;
        }
        for event in changes.events {
            let sequence = next_sequence(after.events.len());
            after.events.push(RecordedEvent { sequence, host: None, event });
        }
        *content = after;
        Ok(())
    }
}
