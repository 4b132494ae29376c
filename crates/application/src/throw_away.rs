//! VMs that are thrown away: made for one command, and removed with everything they have, however that ends.
//!
//! The [definition](self::definition) is that of a file or of another VM, changed so that nothing of it is written: each drive
//! gets an overlay that the kernel frees with QEMU. The process that runs the command holds a lock for as long as it lives,
//! and removes its file with the VM. A VM with the [label](THROW_AWAY_LABEL) and the name of such a VM whose lock is there, and
//! free, was left by a process that was killed: [`left_over`] finds it, and [`remove_abandoned`] removes it. Without a lock, it is
//! one of a process with another data directory, as a database may have several: only there are its files.
//!
//! A fork that is [ephemeral](EPHEMERAL_LABEL) is thrown away once it has stopped. Its lock is free, and only tells that its
//! files are here.

pub(crate) mod definition;

use std::time::Duration;

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::Node;
use maqet_domain::event::kind;
use maqet_domain::port::{Guard, LockError, LockName};
use maqet_domain::vm::{EPHEMERAL_LABEL, FORK_LABEL, Status, THROW_AWAY_LABEL, Vm, VmEntry, VmId};
use serde_json::json;

use self::definition::map;
use crate::config::{merge, origins, without_label};
use crate::{App, Error};

/// When a VM is removed on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// It is not.
    Unlimited,
    /// With the process that made it.
    OfProcess,
    /// Once it has stopped.
    OfRun,
}

impl Lifetime {
    /// Describes a VM that is [left over](left_over).
    pub(crate) const fn left_over(self) -> &'static str {
        match self {
            Self::Unlimited | Self::OfProcess => "a VM of a `maqet run` or `fork` that was killed",
            Self::OfRun => "an ephemeral fork that has stopped",
        }
    }

    /// Returns when a VM is removed on its own.
    pub(crate) fn of(vm: &Vm) -> Self {
        let label = |name: &str| vm.definition.get("labels")?.non_null(name).and_then(Node::written);
        let is_own = |name: &str| label(name).is_some_and(|id| id == vm.entry.id.to_string());
        let is_made_for_command = label(THROW_AWAY_LABEL).is_some() && vm.entry.name.is_of_throw_away(&vm.entry.id);
        match () {
            () if is_own(FORK_LABEL) || is_made_for_command => Self::OfProcess,
            () if is_own(EPHEMERAL_LABEL) => Self::OfRun,
            () => Self::Unlimited,
        }
    }
}

/// Returns the VMs whose process was killed before it removed them, and those that were to go once they had stopped.
pub(crate) async fn left_over(app: &App) -> Result<Vec<Vm>, Error> {
    let mut left = Vec::new();
    for entry in app.ports.store.list().await? {
        // Most VMs have neither, and their definitions are not read.
        if (entry.name.is_of_throw_away(&entry.id) || app.ports.locks.is_left(&LockName::ThrowAway(entry.id)).await)
            && let Some(vm) = app.ports.store.by_id(&entry.id).await?
            && is_left_over(app, &vm).await
        {
            left.push(vm);
        }
    }
    Ok(left)
}

/// Returns whether the process of a VM was killed before it removed it, or whether it was to go and has stopped.
pub(crate) async fn is_left_over(app: &App, vm: &Vm) -> bool {
    let is_due = match Lifetime::of(vm) {
        Lifetime::Unlimited => false,
        Lifetime::OfProcess => true,
        Lifetime::OfRun => has_stopped(app, &vm.entry).await,
    };
    is_due && app.ports.locks.is_left(&LockName::ThrowAway(vm.entry.id)).await
}

async fn has_stopped(app: &App, entry: &VmEntry) -> bool {
    matches!(app.observer().observe_locked(entry).await.status, Status::Stopped(_))
}

/// Removes the VMs that are [left over](left_over); what fails is only logged, and tried again the next time.
pub(crate) async fn remove_left_over(app: &App, operation: &'static str) {
    let left = match left_over(app).await {
        Ok(left) => left,
        Err(error) => return tracing::warn!(%error, "could not search for VMs of killed processes"),
    };
    for Vm { entry, .. } in left {
        match remove_abandoned(app, &entry.id, operation).await {
            Ok(_) => tracing::info!(vm = %entry.name, "removed a VM that was to be thrown away"),
            Err(error) => tracing::warn!(vm = %entry.name, %error, "could not remove a VM that was to be thrown away"),
        }
    }
}

/// Removes a VM that is [left over](left_over), as [`remove`] does; returns `false` if another process is about to.
pub(crate) async fn remove_abandoned(app: &App, id: &VmId, operation: &'static str) -> Result<bool, Error> {
    match app.ports.locks.lock(&LockName::ThrowAway(*id), operation, Duration::ZERO).await {
        Ok(mut guard) => {
            let removed = remove(app, id, operation).await?;
            guard.retire();
            Ok(removed)
        }
        Err(LockError::InUse { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes a VM that is thrown away: QEMU, the images that were made for it, its files and its records.
///
/// Returns whether there was anything to remove: another process may have done it, or have kept the VM, or it runs again.
pub(crate) async fn remove(app: &App, id: &VmId, operation: &'static str) -> Result<bool, Error> {
    let (mut guard, vm) = match app.vms().lock_unrecovered(&id.to_string(), operation, app.timeouts().lock).await {
        Ok(locked) => locked,
        Err(Error::NoSuchVm { .. }) => return Ok(false),
        Err(error) => return Err(error),
    };
    match Lifetime::of(&vm) {
        Lifetime::OfProcess => {}
        Lifetime::OfRun if has_stopped(app, &vm.entry).await => {}
        Lifetime::OfRun | Lifetime::Unlimited => return Ok(false),
    }
    let entry = &vm.entry;
    if let Some(process) = app.observer().observe_process(entry).await.process {
        let hidden = || Error::ProcessHidden { vm: entry.name.clone(), is_forced: true };
        app.shutdown().kill(&entry.name, process.visible().ok_or_else(hidden)?).await?;
    }
    let (sockets, records) = (app.folders.vm_sockets(id), app.folders.vm_records(id));
    // Before the VM, so that it is found again if this is interrupted. No other VM has this directory.
    app.ports.hypervisor.remove_vm_files(&sockets, &app.folders.vm_storage(&entry.name)).await;
    let checkpoints = app.ports.checkpoints.list(&app.folders.vm_checkpoints(id)).await?;
    let unusable = checkpoints.unusable.into_iter().map(|(directory, _)| directory);
    let complete = checkpoints.checkpoints.into_iter().map(|found| found.directory);
    for directory in complete.chain(unusable).chain(checkpoints.unfinished) {
        app.ports.checkpoints.remove(&directory).await?;
    }
    let mut changes = ChangeSet::default();
    for record in app.ports.store.storage_of_vm(id).await? {
        changes = changes.and(Change::StorageRemoved { path: record.path });
    }
    // Another command may have changed its run, which is over.
    let vm = app.vms().reread(&vm).await?;
    changes = changes.and(Change::VmRemoved { id: *id, expected: vm.entry.revision });
    changes.events.push(app.committer().event(kind::VM_REMOVED, &vm.entry, json!({ "kept_storage": [] })));
    app.committer().commit(changes).await?;
    app.ports.hypervisor.remove_vm_files(&sockets, &records).await;
    guard.retire();
    Ok(true)
}

/// Makes a VM one that stays, as any other, or until it has stopped, with `change` applied to its definition.
///
/// Of one that stays until then, the file of the lock has to stay as well.
pub(crate) async fn keep(
    app: &App,
    id: &VmId,
    lifetime: Lifetime,
    change: impl FnOnce(Node) -> Node,
    operation: &'static str,
) -> Result<(), Error> {
    let (_guard, vm) = app.vms().lock_unrecovered(&id.to_string(), operation, app.timeouts().lock).await?;
    let definition = without_label(without_label(vm.definition, THROW_AWAY_LABEL), FORK_LABEL);
    let definition = change(definition);
    let definition = match lifetime {
        Lifetime::Unlimited | Lifetime::OfProcess => definition,
        Lifetime::OfRun => {
            let label = map([("labels", map([(EPHEMERAL_LABEL, Node::text(id.to_string()))]))]);
            merge(definition, label, app.handlers())
        }
    };
    let (id, expected, origins) = (vm.entry.id, vm.entry.revision, origins(&definition));
    let change = Change::DefinitionChanged { id, expected, definition, origins };
    Ok(app.committer().commit(ChangeSet::default().and(change)).await?)
}

/// Returns the lock of a VM that goes once it has stopped, whose file goes with it; `None` for other VMs.
pub(crate) async fn last_lock(app: &App, vm: &Vm, operation: &'static str) -> Option<Box<dyn Guard>> {
    if Lifetime::of(vm) != Lifetime::OfRun {
        return None;
    }
    let mut guard = app.ports.locks.lock(&LockName::ThrowAway(vm.entry.id), operation, Duration::ZERO).await.ok()?;
    guard.retire();
    Some(guard)
}
