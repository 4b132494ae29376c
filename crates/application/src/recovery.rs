//! Recovery: finishing or rolling back the work on images whose process died.
//!
//! An operation that takes several steps commits a [`Pending`](maqet_domain::vm::Pending) with
//! [`Committer::begin_work`](crate::app::commit::Committer::begin_work) before the first of them. An operation that
//! locks the VM ([`Vms::lock`](crate::app::lookup::Vms::lock)) and finds it calls [`recover`] before its own work: the
//! process that began the work is gone, and so are its tools, which hold the lock as well. How a kind of work is recovered is beside
//! its operation; this only dispatches.

mod error;

use jiff::Timestamp;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::port::HeldLock;
use maqet_domain::vm::{LoadGuest, Pending, PendingWork, Vm, VmEntry};
use serde_json::json;

pub use self::error::RecoveryError;
use crate::app::commit::work_done;
use crate::app::recovered::Recovered;
use crate::backup::recover as backup;
use crate::checkpoint::merge::Begun;
use crate::checkpoint::{recover as checkpoint, restore};
use crate::guest::quiesce::thaw_left_over;
use crate::snapshot::live::{self, LiveVm};
use crate::snapshot::recover as snapshot;
use crate::storage::recover as storage;
use crate::trash::moving as trash;
use crate::upgrade::recover as upgrade;
use crate::{App, Error};

/// Finishes the pending work of a VM, or rolls it back, and records that; the caller holds the lock `guard` of the VM.
///
/// A guest that may be frozen is thawed before, unless it was reset (`is_reset`).
///
/// Errors: [`Error::Recovery`], after which the work is still pending.
pub(crate) async fn recover(app: &App, vm: Vm, guard: &HeldLock, is_reset: bool) -> Result<Vm, Error> {
    let Some(pending) = vm.entry.pending.clone() else { return Ok(vm) };
    let Pending { operation, since, work } = *pending;
    let name = vm.entry.name.clone();
    if work == PendingWork::Unknown {
        return Err(RecoveryError::Unknown { vm: name, operation, since }.into());
    }
    let recovered = async {
        let is_thawed = work.is_quiesced() && !is_reset && thaw_left_over(app, &vm.entry, since).await?;
        Ok((recover_work(app, &vm.entry, &work, guard).await?, is_thawed))
    };
    match recovered.await {
        Ok((recovered, is_thawed)) => {
            Ok(Vm { entry: record(app, recovered, (&operation, since), is_thawed).await?, ..vm })
        }
        Err(source) => Err(RecoveryError::Failed { vm: name, operation, since, source: Box::new(source) }.into()),
    }
}

async fn recover_work(app: &App, entry: &VmEntry, work: &PendingWork, guard: &HeldLock) -> Result<Recovered, Error> {
    match work {
        PendingWork::SnapshotCreate { created, live: false, .. } => {
            snapshot::roll_back_create(app, entry, guard, created).await
        }
        PendingWork::SnapshotCreate { created, live: true, .. } => {
            live::recover::roll_back_create(app, entry, guard, created).await
        }
        PendingWork::SnapshotRemove { removed } => match LiveVm::open(app, entry).await? {
            Some(live) => live::recover::finish_remove(live, entry, removed).await,
            None => snapshot::finish_remove(app, entry, guard, removed).await,
        },
        PendingWork::SnapshotLoad { safety, guest: LoadGuest::Off, .. } => {
            snapshot::recover_load(app, entry, guard, safety).await
        }
        PendingWork::SnapshotLoad { safety, guest, .. } => {
            live::recover::recover_load(app, entry, guard, safety, *guest).await
        }
        PendingWork::StorageConvert { path, file } => storage::roll_back_convert(app, entry, path, *file).await,
        PendingWork::ImageRewrite { path } => Ok(storage::end_rewrite(app, entry, path).await),
        PendingWork::Trash { entry: trashed } => trash::recover(app, entry, trashed).await,
        PendingWork::Backup { unfinished, complete, bitmap, drives, .. } => {
            backup::recover_backup(app, entry, guard, (unfinished, complete), bitmap, drives).await
        }
        PendingWork::Restore { images, are_in_place } => {
            backup::recover_restore(app, entry, images, *are_in_place).await
        }
        PendingWork::CheckpointCreate(work) => checkpoint::recover_create(app, entry, guard, work).await,
        PendingWork::CheckpointRemove { checkpoints, layers, resumes, dropped } => {
            let work = Begun { checkpoints, layers, dropped, resumes: *resumes };
            checkpoint::finish_remove(app, entry, guard, work).await
        }
        PendingWork::CheckpointRestore(work) => restore::recover(app, entry, work).await,
        PendingWork::Upgrade(work) => upgrade::recover(app, entry, work).await,
        // Refused before.
        PendingWork::Unknown => Ok(Recovered::finished(entry)),
    }
}

/// Records that work was recovered, and returns the entry as it is from then on.
async fn record(
    app: &App,
    recovered: Recovered,
    (operation, since): (&str, Timestamp),
    is_thawed: bool,
) -> Result<VmEntry, Error> {
    let Recovered { entry, outcome, changes, follow_up } = recovered;
    let mut data = json!({ "operation": operation, "since": since, "outcome": <&str>::from(outcome) });
    if is_thawed {
        data["thawed"] = true.into();
    }
    let event = app.committer().event(kind::VM_RECOVERED, &entry, data);
    let mut changes = ChangeSet { changes, events: vec![event], ..ChangeSet::default() };
    changes.changes.push(work_done(&entry));
    app.committer().commit(changes).await?;
    tracing::warn!(vm = %entry.name, operation, %outcome, "recovered interrupted work");
    let entry = VmEntry { revision: entry.revision.next(), pending: None, ..entry };
    live::recover::follow_up(app, &entry, follow_up).await?;
    Ok(entry)
}
