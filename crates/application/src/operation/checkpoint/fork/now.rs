//! The checkpoint of a VM as it is now, which forks go on from, and which goes with the last of them.

use maqet_domain::change::ChangeSet;
use maqet_domain::checkpoint::CheckpointName;
use maqet_domain::port::{FoundCheckpoint, HeldLock, LockName};
use maqet_domain::vm::{Vm, VmEntry};

use crate::app::commit::work_done;
use crate::checkpoint::create::{Request, created_event, take};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::place::Place;
use crate::operation::CheckpointRm;
use crate::trash::used_files::UsedFiles;
use crate::{App, Error};

/// Takes a checkpoint of a running VM that goes with the last fork of it.
pub(super) async fn take_temporary(
    app: &App,
    guard: &HeldLock,
    vm: &Vm,
    operation: &'static str,
) -> Result<CheckpointName, Error> {
    let place = Place::read(app, &vm.entry.id).await?;
    let name = free_name(&place, &vm.entry)?;
    let job = app.jobs.start(operation, &vm.entry.name);
    let request =
        Request { name: name.clone(), description: None, is_durable: false, is_temporary: true, template: None };
    let created = Box::pin(take(app, &job, (guard, vm), request, None, operation)).await?;
    let mut changes = ChangeSet::default().and(work_done(&created.entry));
    changes.events.push(created_event(app, &created.entry, &created.manifest));
    app.committer().commit(changes).await?;
    Ok(name)
}

/// Returns a name that no checkpoint of the VM has.
fn free_name(place: &Place, entry: &VmEntry) -> Result<CheckpointName, CheckpointError> {
    let mut number = 1_u64;
    while place.directory_of(entry, &format!("fork-{number}")).is_ok() {
        number += 1;
    }
    Ok(CheckpointName::parse(&format!("fork-{number}"))?)
}

/// Removes the checkpoints that were taken for forks which are gone; what fails is only logged, and tried again the next
/// time.
pub(crate) async fn remove_unused(app: &App) {
    let entries = match app.ports.store.list().await {
        Ok(entries) => entries,
        Err(error) => return tracing::warn!(%error, "could not search for checkpoints of forks that are gone"),
    };
    for entry in entries {
        if let Err(error) = remove_unused_of(app, &entry).await {
            tracing::warn!(vm = %entry.name, %error, "could not remove checkpoints of forks that are gone");
        }
    }
}

async fn remove_unused_of(app: &App, entry: &VmEntry) -> Result<(), Error> {
    let mut temporary = Place::read(app, &entry.id).await?.listing.checkpoints;
    temporary.retain(|found| found.manifest.is_temporary);
    // The process that works on the VM may be about to fork it.
    if temporary.is_empty() || app.ports.locks.holder(&LockName::Vm(entry.id)).await.is_some() {
        return Ok(());
    }
    let others = UsedFiles::of_all_but_vm(app, &entry.id).await?;
    let mut names = Vec::new();
    for found in &temporary {
        if !is_used(&others, found).await {
            names.push(found.manifest.name.to_string());
        }
    }
    if !names.is_empty() {
        Box::pin(app.run(CheckpointRm::new(entry.id.to_string(), names))).await?;
    }
    Ok(())
}

async fn is_used(others: &UsedFiles<'_>, found: &FoundCheckpoint) -> bool {
    for disk in &found.manifest.disks {
        if !others.uses_of(&disk.file).await.is_empty() {
            return true;
        }
    }
    false
}
