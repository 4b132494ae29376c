//! A QEMU that no VM owns: taken back or ended, under the lock of the VM it was, and only if it is an orphan still.

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::Node;
use maqet_domain::event::kind;
use maqet_domain::network::Forward;
use maqet_domain::port::{Guard, LockName, QemuInstance};
use maqet_domain::vm::{Revision, Run, VmEntry, VmId, VmName};
use serde_json::json;

use super::Cleanup;
use crate::app::commit::run_change;
use crate::app::operations::Operation;
use crate::operation::vm::start;
use crate::vm::orphan::run_of_instance;
use crate::{App, Error};

async fn lock(app: &App, id: VmId) -> Result<Box<dyn Guard>, Error> {
    Ok(app.ports.locks.lock(&LockName::Vm(id), Cleanup::NAME, app.timeouts().lock).await?)
}

/// Writes a machine down as the run of its VM, which is defined again if it is gone.
///
/// Returns whether it was an orphan by then.
pub(super) async fn adopt(app: &App, machine: &QemuInstance) -> Result<bool, Error> {
    let no_copy = || Error::OrphanWithoutDefinition { pid: machine.process.pid };
    let id = machine.id.ok_or_else(no_copy)?;
    let mut guard = lock(app, id).await?;
    let vm = app.ports.store.by_id(&id).await?;
    if !app.orphans().is_orphan(machine, vm.as_ref()) {
        if vm.is_none() {
            guard.retire();
        }
        return Ok(false);
    }
    let mut run = run_of_instance(machine);
    let data = json!({ "adopted": true, "boot": run.boot });
    if let Some(vm) = vm {
        run.forwards = ports_of(app, &run, &vm.definition).await;
        let event = app.committer().event(kind::VM_STARTED, &vm.entry, data);
        let mut changes = ChangeSet::default().and(run_change(&vm.entry, Some(run)));
        changes.events.push(event);
        app.committer().commit(changes).await?;
        return Ok(true);
    }
    let Some(mut kept) = app.maintenance().copies.of_vm(&id).await else {
        guard.retire();
        return Err(no_copy());
    };
    run.forwards = ports_of(app, &run, &kept.vm.definition).await;
    kept.vm.entry = VmEntry { run: Some(run), revision: Revision::FIRST, ..kept.vm.entry };
    let event = app.committer().event(kind::VM_DEFINED, &kept.vm.entry, data);
    let mut changes = ChangeSet::default().and(Change::VmAdded(Box::new(kept.vm)));
    for record in kept.storage {
        changes = changes.and(Change::StorageAdded(record));
    }
    changes.events.push(event);
    app.committer().commit(changes).await?;
    Ok(true)
}

/// Returns the ports that lead to the guest of a machine, as far as its definition is understood.
async fn ports_of(app: &App, run: &Run, definition: &Node) -> Vec<Forward> {
    match app.machine_from(definition.clone()) {
        Ok(machine) => start::forwards(app, run, &machine).await,
        Err(_) => Vec::new(),
    }
}

/// Ends a machine as `stop` does, and removes its sockets.
///
/// Returns whether it was an orphan by then.
pub(super) async fn end(app: &App, machine: &QemuInstance, entries: &[VmEntry]) -> Result<bool, Error> {
    // One that was not told its id has a folder by which its VM is known, if there is one.
    let of_folder = || entries.iter().find(|entry| entry.id.short() == machine.short).map(|entry| entry.id);
    let Some(id) = machine.id.or_else(of_folder) else {
        return end_now(app, machine).await.map(|()| true);
    };
    let mut guard = lock(app, id).await?;
    let vm = app.ports.store.by_id(&id).await?;
    if vm.is_none() {
        guard.retire();
    }
    if !app.orphans().is_orphan(machine, vm.as_ref()) {
        return Ok(false);
    }
    end_now(app, machine).await.map(|()| true)
}

async fn end_now(app: &App, machine: &QemuInstance) -> Result<(), Error> {
    let entry = stand_in(app, machine)?;
    let run = run_of_instance(machine);
    let status = app.observer().observe_locked(&entry).await.status;
    app.shutdown().shut_down(&entry.name, &run, &machine.process, status, app.timeouts().power_down).await?;
    app.ports.hypervisor.clear(&machine.paths).await;
    Ok(())
}

/// Returns an entry by which a machine can be looked at; it is never stored.
fn stand_in(app: &App, machine: &QemuInstance) -> Result<VmEntry, Error> {
    let named = machine.name.as_deref().and_then(|name| VmName::parse(name).ok());
    let name = named.map_or_else(|| VmName::parse(&format!("vm-{}", machine.short)), Ok)?;
    let id: VmId = machine.id.unwrap_or_else(|| app.ports.ids.vm_id());
    let run: Option<Run> = Some(run_of_instance(machine));
    Ok(VmEntry { id, name, revision: Revision::FIRST, created_at: machine.started_at, run })
}
