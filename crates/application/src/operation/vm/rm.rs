//! `rm`: removes a VM's definition.

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::event::kind;
use maqet_domain::vm::{Action, Vm};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Add;
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::config::Document;
use crate::vm::unresponsive::refusal;
use crate::{App, Error};

/// Removes a VM; its disks stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rm {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
    /// Kills QEMU first if it runs.
    #[serde(default)]
    pub force: bool,
}

/// A VM that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Disks and UEFI variables that maqet made for it and that are still there.
    pub kept_storage: Vec<String>,
}

impl Operation for Rm {
    const NAME: &'static str = "rm";
    const EFFECT: Effect = Effect::Changes;
    type Output = Removed;

    async fn run(&self, app: &App) -> Result<Done<Removed>, Error> {
        let (mut guard, mut vm) = app.lock(&self.vm, Self::NAME).await?;
        let seen = app.observe_locked(&vm.entry).await;
        if let Err(refused) = seen.status.on(Action::Remove)
            && !self.force
        {
            return Err(refusal(&vm.entry, &seen, refused));
        }
        if let Some(process) = &seen.process {
            // Nothing is killed for a VM that could not be removed after all, as on a full disk.
            vm.entry = app.record_run(&vm.entry, vm.entry.run.clone()).await?;
            app.kill(&vm.entry.name, process).await?;
            app.faults.reach(FaultPoint::RmKilled);
        }

        let entry = &vm.entry;
        let removed = Removed {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            kept_storage: kept_storage(app, &vm).await?,
        };
        let (sockets, records) = app.vm_folders(&entry.id);
        guard.retire();
        let event = app.event(kind::VM_REMOVED, entry, json!({ "kept_storage": removed.kept_storage }));
        let changes = ChangeSet::default().and(Change::VmRemoved { id: entry.id, expected: entry.revision });
        Ok(Done::changing(removed, entry.id, changes)
            .telling(event)
            .undone_by(&again(&vm)?)
            .forgetting(sockets, records)
            .holding(guard))
    }
}

async fn kept_storage(app: &App, vm: &Vm) -> Result<Vec<String>, Error> {
    let mut kept = Vec::new();
    for record in app.ports.store.of_vm(&vm.entry.id).await? {
        if app.ports.images.exists(&record.path).await {
            kept.push(shown(&record.path));
        }
    }
    // The store of variables is no drive of the definition, so the ledger does not know it.
    let variables = app.uefi_variables(&vm.entry);
    if app.ports.images.exists(&variables).await {
        kept.push(shown(&variables));
    }
    Ok(kept)
}

/// Returns the call that defines the same VM again; JSON is YAML, so its definition is a document.
fn again(vm: &Vm) -> Result<Add, Error> {
    let document = Document::of_definition(&vm.entry.name, &vm.definition)?;
    Ok(Add { documents: vec![document], name: Some(vm.entry.name.to_string()), ..Add::default() })
}
