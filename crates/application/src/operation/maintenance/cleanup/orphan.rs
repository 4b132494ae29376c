//! Adopts or ends an orphan under the lock of its former VM, if it still is one then.

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
use crate::config::check_machine;
use crate::operation::vm::start;
use crate::vm::orphan::run_of_instance;
use crate::vm::shutdown::{StopMethod, StopRequest};
use crate::{App, Error};

async fn lock(app: &App, id: VmId) -> Result<Box<dyn Guard>, Error> {
    Ok(app.ports.locks.lock(&LockName::Vm(id), Cleanup::NAME, app.timeouts().lock).await?)
}

/// Records an orphan as the run of its VM, and defines the VM again if it was removed.
///
/// Returns whether it was still an orphan.
pub(super) async fn adopt(app: &App, instance: &QemuInstance) -> Result<bool, Error> {
    let no_copy = || Error::OrphanWithoutDefinition { pid: instance.process.pid };
    let id = instance.id.ok_or_else(no_copy)?;
    let mut guard = lock(app, id).await?;
    let vm = app.ports.store.by_id(&id).await?;
    if !app.orphans().is_orphan(instance, vm.as_ref()) {
        if vm.is_none() {
            guard.retire();
        }
        return Ok(false);
    }
    let mut run = run_of_instance(instance);
    let data = json!({ "adopted": true, "boot": run.boot });
    if let Some(vm) = vm {
        run.forwards = forwards_of_run(app, &run, &vm.definition).await;
        let event = app.committer().event(kind::VM_STARTED, &vm.entry, data);
        let mut changes = ChangeSet::default().and(run_change(&vm.entry, Some(run)));
        changes.events.push(event);
        app.committer().commit(changes).await?;
        return Ok(true);
    }
    let Some(mut copy) = app.ports.maintenance.copies.find(&id).await else {
        guard.retire();
        return Err(no_copy());
    };
    run.forwards = forwards_of_run(app, &run, &copy.vm.definition).await;
    copy.vm.entry = VmEntry { run: Some(run), revision: Revision::FIRST, ..copy.vm.entry };
    let event = app.committer().event(kind::VM_DEFINED, &copy.vm.entry, data);
    let mut changes = ChangeSet::default().and(Change::VmAdded(Box::new(copy.vm)));
    for record in copy.storage {
        changes = changes.and(Change::StorageAdded(record));
    }
    changes.events.push(event);
    app.committer().commit(changes).await?;
    Ok(true)
}

/// Returns the port forwards of a run, or none if its definition is invalid.
async fn forwards_of_run(app: &App, run: &Run, definition: &Node) -> Vec<Forward> {
    match check_machine(app, definition.clone()) {
        Ok(machine) => start::forwards(app, run, &machine).await,
        Err(_) => Vec::new(),
    }
}

/// Ends an orphan as `stop` does, and removes its sockets.
///
/// Returns how; `None` if it was no longer an orphan.
pub(super) async fn end(app: &App, instance: &QemuInstance, entries: &[VmEntry]) -> Result<Option<StopMethod>, Error> {
    // A process without an id on its command line is matched by the name of its folder.
    let by_folder = || entries.iter().find(|entry| entry.id.short() == instance.short).map(|entry| entry.id);
    let Some(id) = instance.id.or_else(by_folder) else {
        return end_now(app, instance).await.map(Some);
    };
    let mut guard = lock(app, id).await?;
    let vm = app.ports.store.by_id(&id).await?;
    if vm.is_none() {
        guard.retire();
    }
    if !app.orphans().is_orphan(instance, vm.as_ref()) {
        return Ok(None);
    }
    end_now(app, instance).await.map(Some)
}

async fn end_now(app: &App, instance: &QemuInstance) -> Result<StopMethod, Error> {
    let entry = temporary_entry(app, instance)?;
    let run = run_of_instance(instance);
    let status = app.observer().observe_locked(&entry).await.status;
    let request = StopRequest {
        job: &app.jobs.start(Cleanup::NAME, &entry.name),
        vm: &entry.name,
        run: &run,
        process: &instance.process,
        status,
        power_down: app.timeouts().power_down,
    };
    let outcome = app.shutdown().shut_down(&request).await?;
    app.ports.hypervisor.remove_sockets(&instance.paths).await;
    Ok(outcome.method)
}

/// Returns a temporary entry, which is never stored, to observe an orphan.
fn temporary_entry(app: &App, instance: &QemuInstance) -> Result<VmEntry, Error> {
    let named = instance.name.as_deref().and_then(|name| VmName::parse(name).ok());
    let name = named.map_or_else(|| VmName::parse(&format!("vm-{}", instance.short)), Ok)?;
    let id: VmId = instance.id.unwrap_or_else(|| app.ports.ids.vm_id());
    let run: Option<Run> = Some(run_of_instance(instance));
    Ok(VmEntry {
        id,
        name,
        revision: Revision::FIRST,
        created_at: instance.started_at,
        run,
        pending: None,
        layers: Vec::new(),
    })
}
