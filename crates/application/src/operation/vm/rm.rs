//! `rm`: removes a VM's definition.

use derive_setters::Setters;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::event::kind;
use maqet_domain::vm::{Action, Vm};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Add;
use crate::app::operations::{Done, Effect, Operation, RemovedVmFiles};
use crate::app::shown;
use crate::config::Document;
use crate::{App, Error};

/// Removes a VM; its disks are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Rm {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// Kills QEMU first, if it is running.
    #[serde(default)]
    pub force: bool,
}

impl Rm {
    /// Removes the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), force: false }
    }
}

/// A VM that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Removed {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Disks and UEFI variable stores that maqet created for it and that still exist.
    pub kept_storage: Vec<String>,
}

impl Operation for Rm {
    const NAME: &'static str = "rm";
    const EFFECT: Effect = Effect::Changes;
    type Output = Removed;

    async fn run(&self, app: &App) -> Result<Done<Removed>, Error> {
        let vms = app.vms();
        let locked = vms.lock_unrecovered(&self.vm, Self::NAME, app.timeouts().lock).await;
        let (mut guard, mut vm) = locked.map_err(|error| error.offering_force(&self.vm))?;
        match vms.recover(vm.clone(), &*guard).await {
            Ok(recovered) => vm = recovered,
            Err(error) if self.force => tracing::warn!(vm = %vm.entry.name, %error, "removing it all the same"),
            Err(error) => return Err(error),
        }
        let observation = app.observer().observe_locked(&vm.entry).await;
        if !self.force {
            observation.transition(&vm.entry, Action::Remove)?;
        }
        if let Some(process) = &observation.process {
            let hidden = || Error::ProcessHidden { vm: vm.entry.name.clone(), is_forced: true };
            let process = process.visible().ok_or_else(hidden)?;
            // A VM that cannot be removed, as on a full disk, is not killed.
            vm.entry = app.committer().record_run(&vm.entry, vm.entry.run.clone()).await?;
            app.shutdown().kill(&vm.entry.name, process).await?;
            app.faults.reach(FaultPoint::RmKilled);
        }

        let entry = &vm.entry;
        let removed = Removed {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            kept_storage: kept_storage(app, &vm).await?,
        };
        let files =
            RemovedVmFiles { sockets: app.folders.vm_sockets(&entry.id), records: app.folders.vm_records(&entry.id) };
        guard.retire();
        let event = app.committer().event(kind::VM_REMOVED, entry, json!({ "kept_storage": removed.kept_storage }));
        let changes = ChangeSet::default().and(Change::VmRemoved { id: entry.id, expected: entry.revision });
        Ok(Done::changing(removed, entry.id, changes)
            .event(event)
            .undone_by(&add_again(&vm)?)
            .removed_files(files)
            .holding(guard))
    }
}

async fn kept_storage(app: &App, vm: &Vm) -> Result<Vec<String>, Error> {
    let mut kept = Vec::new();
    for record in app.ports.store.storage_of_vm(&vm.entry.id).await? {
        if record.is_created() && app.ports.images.exists(&record.path).await {
            kept.push(shown(&record.path));
        }
    }
    // One that an older maqet created has no record until the next start.
    let variables = app.preflight().uefi_variables(&vm.entry.name);
    if !kept.contains(&shown(&variables)) && app.ports.images.exists(&variables).await {
        kept.push(shown(&variables));
    }
    Ok(kept)
}

/// Returns the call that defines the same VM again; JSON is YAML, so its definition is a document.
fn add_again(vm: &Vm) -> Result<Add, Error> {
    let document = Document::from_definition(&vm.entry.name, &vm.definition)?;
    Ok(Add { documents: vec![document], name: Some(vm.entry.name.to_string()), ..Add::default() })
}
