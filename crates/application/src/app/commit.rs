//! Writing to the store: one commit, then a copy of each changed VM, hooks and events.

use std::path::Path;

use maqet_domain::Timestamp;
use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::event::Event;
use maqet_domain::history::MAX_ENTRIES;
use maqet_domain::metric::step;
use maqet_domain::port::{Clock, Store, StoreError, VmCopies, VmCopy};
use maqet_domain::vm::{Pending, PendingWork, Run, Vm, VmEntry, VmId};
use serde_json::Value;

use crate::Error;
use crate::event::bus::Bus;
use crate::event::hook_runner::HookRunner;
use crate::metric::meter::Meter;

/// Writes to the store, and publishes what was written.
#[derive(Clone, Copy)]
pub(crate) struct Committer<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) copies: &'a dyn VmCopies,
    pub(super) clock: &'a dyn Clock,
    pub(super) hooks: HookRunner<'a>,
    pub(super) bus: &'a Bus,
    pub(super) meter: &'a Meter,
}

impl Committer<'_> {
    /// Writes `changes`; then copies the VMs whose definition or storage changed, queues hooks and publishes events.
    ///
    /// The store is the truth: a copy that cannot be written fails nothing.
    /// An entry of the history removes the oldest ones beyond [`MAX_ENTRIES`].
    pub(crate) async fn commit(&self, mut changes: ChangeSet) -> Result<(), StoreError> {
        if changes.history.is_some() {
            changes.history_limit.get_or_insert(MAX_ENTRIES);
        }
        let events = changes.events.clone();
        let copies = outdated_copies(&changes);
        // Before the commit, because a VM that is removed takes its own hooks with it.
        let hooks = self.hooks.for_changes(&changes).await;
        let span = tracing::trace_span!("commit", changes = changes.changes.len(), events = events.len());
        self.meter.step(step::COMMIT, span, self.store.commit(changes)).await?;
        for copy in copies {
            self.write_copy(copy).await;
        }
        self.hooks.queue(hooks);
        for event in &events {
            self.bus.publish(event);
        }
        Ok(())
    }

    /// Writes the last run of a VM, and returns the entry as it is from then on.
    pub(crate) async fn record_run(&self, entry: &VmEntry, run: Option<Run>) -> Result<VmEntry, Error> {
        let change = run_change(entry, run.clone());
        self.commit(ChangeSet::default().and(change)).await?;
        Ok(VmEntry { run, revision: entry.revision.next(), ..entry.clone() })
    }

    /// Records that work on the images of a VM begins, or goes on with another step, together with `more`; returns the
    /// entry as it is from then on.
    ///
    /// The caller holds the lock of the VM, and ends with [`end_work`](Self::end_work), or has its last commit include
    /// [`work_done`].
    pub(crate) async fn begin_work(
        &self,
        entry: &VmEntry,
        operation: &str,
        work: PendingWork,
        more: Vec<Change>,
    ) -> Result<VmEntry, Error> {
        self.begin_last_step(entry, operation, work, ChangeSet { changes: more, ..ChangeSet::default() }).await
    }

    /// Records that only a step is left that a recovery would finish, together with `more`, which has the entry of the
    /// history.
    pub(crate) async fn begin_last_step(
        &self,
        entry: &VmEntry,
        operation: &str,
        work: PendingWork,
        more: ChangeSet,
    ) -> Result<VmEntry, Error> {
        let since = entry.pending.as_ref().map_or_else(|| self.now(), |pending| pending.since);
        let pending = Some(Box::new(Pending { operation: operation.to_owned(), since, work }));
        let (id, expected) = (entry.id, entry.revision);
        self.commit(more.and(Change::PendingChanged { id, expected, pending: pending.clone() })).await?;
        Ok(VmEntry { pending, revision: expected.next(), ..entry.clone() })
    }

    /// Records that the work on the images of a VM has ended, together with `more`; returns the entry as it is from then
    /// on.
    pub(crate) async fn end_work(&self, entry: &VmEntry, more: Vec<Change>) -> Result<VmEntry, Error> {
        let changes = more.into_iter().chain([work_done(entry)]).collect();
        self.commit(ChangeSet { changes, ..ChangeSet::default() }).await?;
        Ok(VmEntry { pending: None, revision: entry.revision.next(), ..entry.clone() })
    }

    /// Returns the record of the image at a path, of whatever VM.
    pub(crate) async fn storage_at(&self, path: &Path) -> Result<Option<StorageRecord>, Error> {
        Ok(self.store.storage_at(path).await?)
    }

    /// Returns the date.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Makes an event about a VM that happened now.
    pub(crate) fn event(&self, kind: &str, entry: &VmEntry, data: Value) -> Event {
        Event {
            at: self.clock.now(),
            kind: kind.to_owned(),
            vm: Some(entry.id),
            vm_name: Some(entry.name.clone()),
            data,
        }
    }

    async fn write_copy(&self, copy: OutdatedCopy) {
        let current = match copy {
            OutdatedCopy::New(vm) => Ok(Some(VmCopy::new(*vm, Vec::new()))),
            OutdatedCopy::Changed(id) => read_vm_copy(self.store, &id).await,
        };
        let written = match current {
            Ok(Some(copy)) => self.copies.write(&copy).await,
            // Another process removed it meanwhile.
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "could not write a copy of the VM");
        }
    }
}

/// Returns the change that sets the last run of a VM.
pub(crate) fn run_change(entry: &VmEntry, run: Option<Run>) -> Change {
    Change::RunChanged { id: entry.id, expected: entry.revision, run }
}

/// Returns the change that records that no work on the images of a VM is pending.
pub(crate) fn work_done(entry: &VmEntry) -> Change {
    Change::PendingChanged { id: entry.id, expected: entry.revision, pending: None }
}

/// Reads the content of a copy of a VM from the store.
pub(crate) async fn read_vm_copy(store: &dyn Store, id: &VmId) -> Result<Option<VmCopy>, StoreError> {
    let Some(vm) = store.by_id(id).await? else { return Ok(None) };
    Ok(Some(VmCopy::new(vm, store.storage_of_vm(id).await?)))
}

enum OutdatedCopy {
    New(Box<Vm>),
    Changed(VmId),
}

/// Returns the VMs whose copies `changes` makes outdated, each once; runs are not part of a copy.
fn outdated_copies(changes: &ChangeSet) -> Vec<OutdatedCopy> {
    let mut new = Vec::new();
    let mut modified = Vec::new();
    for change in &changes.changes {
        match change {
            Change::VmAdded(vm) => new.push(vm.clone()),
            Change::DefinitionChanged { id, .. }
            | Change::LayersChanged { id, .. }
            | Change::VmTakenOver { id, .. } => modified.push(*id),
            Change::StorageAdded(record) => modified.extend(record.vm),
            Change::VmRemoved { .. }
            // Another change of the same commit is about the VM that had the image.
            | Change::StorageRemoved { .. }
            | Change::RunChanged { .. }
            | Change::PendingChanged { .. }
            | Change::SnapshotAdded(_)
            | Change::SnapshotRemoved { .. }
            | Change::ImagesUsed { .. } => {}
        }
    }
    modified.sort_unstable();
    modified.dedup();
    new.retain(|vm| !modified.contains(&vm.entry.id));
    new.into_iter().map(OutdatedCopy::New).chain(modified.into_iter().map(OutdatedCopy::Changed)).collect()
}
