//! `add`: defines a VM.

use crate::history::error::HistoryError;
use crate::history::require_expected;
use derive_setters::Setters;
use maqet_domain::change::StorageRecord;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::{Node, Problem};
use maqet_domain::event::kind;
use maqet_domain::history::{Direction, Expected, Unexpected};
use maqet_domain::port::LockName;
use maqet_domain::revert::{RemovedVm, Revert, StoredDefinition};
use maqet_domain::vm::{Revision, Vm, VmEntry, VmName};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Rm;
use crate::app::operations::{Done, Effect, Operation};
use crate::config::{Document, Layers, check_layers, origins, without_name};
use crate::{App, Error};

/// Defines a VM from merged documents and single values.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Add {
    /// The documents, merged left to right.
    pub documents: Vec<Document>,
    /// The name; overrides the documents.
    #[setters(strip_option)]
    pub name: Option<String>,
    /// RAM; overrides the documents.
    #[setters(strip_option)]
    pub memory: Option<String>,
    /// The number of CPUs; overrides the documents.
    #[setters(strip_option)]
    pub cpu: Option<String>,
    /// Single values, each as `key.path=value`; they override the documents.
    pub set: Vec<String>,
    /// Defines a VM of defaults, without a document.
    #[setters(skip)]
    pub empty: bool,
    /// Ignores unknown keys with a warning instead of refusing them.
    pub lenient: bool,
    /// What it has in addition if it reverts a change; `undo` sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(skip)]
    pub revert: Option<Box<Revert>>,
}

impl Add {
    /// Defines a VM from documents, merged left to right.
    pub fn new(documents: Vec<Document>) -> Self {
        Self { documents, ..Self::default() }
    }

    /// Defines a VM of defaults, without a document.
    pub fn empty() -> Self {
        Self { empty: true, ..Self::default() }
    }
}

/// The VM that was defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Added {
    /// Its ID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Unknown keys that were ignored, and what is probably not meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
}

impl Operation for Add {
    const NAME: &'static str = "add";
    const EFFECT: Effect = Effect::Changes;
    type Output = Added;

    fn revert(&self) -> Option<&Revert> {
        self.revert.as_deref()
    }

    async fn run(&self, app: &App) -> Result<Done<Added>, Error> {
        if let Some(revert) = &self.revert {
            return restore(app, revert).await;
        }
        if self.documents.is_empty() && !self.empty {
            return Err(Error::ConfigRequired);
        }
        let flags = vec![("name", self.name.clone()), ("memory", self.memory.clone()), ("cpu", self.cpu.clone())];
        let layers = Layers { documents: &self.documents, flags, set: &self.set, lenient: self.lenient };
        let checked = check_layers(app, &layers, Node::empty_map()).await?;
        let (name, definition) = split_name(checked.definition)?;

        // Its VM could not be adopted any more.
        if let Some(orphan) = app.orphans().named(&name).await {
            return Err(Error::Orphaned(Box::new(orphan)));
        }
        let vm = new_vm(app, name, definition);
        let id = vm.entry.id;
        let added = Added { id: id.to_string(), name: vm.entry.name.to_string(), warnings: checked.warnings };
        let event = app.committer().event(kind::VM_DEFINED, &vm.entry, json!({}));
        // What maqet creates for it meanwhile, as for a snapshot, goes with it.
        let expected = Expected::vm(&vm).not_started_since(&vm);
        let inverse = Rm::reverting(id, expected).delete_storage(true);
        let changes = ChangeSet::default().and(Change::VmAdded(Box::new(vm)));
        Ok(Done::changing(added, id, changes).event(event).undone_by(&inverse))
    }
}

/// Makes a VM that is not stored yet, with a new ID.
pub(crate) fn new_vm(app: &App, name: VmName, definition: Node) -> Vm {
    let origins = origins(&definition);
    let entry = VmEntry {
        id: app.ports.ids.vm_id(),
        name,
        revision: Revision::FIRST,
        created_at: app.ports.clock.now(),
        run: None,
        pending: None,
        layers: Vec::new(),
    };
    Vm { entry, definition, origins }
}

/// Takes the name out of a definition: it belongs to the VM, not to its machine.
fn split_name(definition: Node) -> Result<(VmName, Node), Error> {
    let name = definition.get("name").and_then(Node::written).ok_or(Error::NameRequired)?;
    Ok((VmName::parse(&name)?, without_name(definition)))
}

/// Defines a VM again that was removed, with its ID, its images and the records of its snapshots.
///
/// The lock of its ID is held until that is committed, so that what was checked stays as it is.
async fn restore(app: &App, revert: &Revert) -> Result<Done<Added>, Error> {
    let (Some(removed), Some(stored)) = (&revert.removed, &revert.definition) else {
        return Err(Error::ConfigRequired);
    };
    let locked = app.ports.locks.lock(&LockName::Vm(removed.id), Add::NAME, app.timeouts().lock).await;
    let mut guard = locked.map_err(|error| error.about(removed.name.as_str()))?;
    match restore_locked(app, revert, removed, stored).await {
        Ok(done) => Ok(done.holding(guard)),
        Err(error) => {
            if matches!(app.ports.store.by_id(&removed.id).await, Ok(None)) {
                guard.retire();
            }
            Err(error)
        }
    }
}

async fn restore_locked(
    app: &App,
    revert: &Revert,
    removed: &RemovedVm,
    stored: &StoredDefinition,
) -> Result<Done<Added>, Error> {
    require_expected(app, Some(revert), None).await?;
    let RemovedVm { id, name, created_at, run, storage, snapshots } = removed.clone();
    if let Some(orphan) = app.orphans().named(&name).await {
        return Err(Error::Orphaned(Box::new(orphan)));
    }
    require_free(app, &storage).await?;
    let StoredDefinition { definition, origins } = stored.clone();
    let entry = VmEntry { id, name, revision: Revision::FIRST, created_at, run, pending: None, layers: Vec::new() };
    let vm = Vm { entry, definition, origins };
    let added = Added { id: id.to_string(), name: vm.entry.name.to_string(), warnings: Vec::new() };
    let event = app.committer().event(kind::VM_DEFINED, &vm.entry, json!({}));
    // Added again, it gets new images; the images of one whose removal is undone were kept by it.
    let is_added_again = revert.entry.is_some_and(|entry| entry.direction == Direction::Redo);
    let inverse = Rm::reverting(id, Expected::vm(&vm).not_started_since(&vm)).delete_storage(is_added_again);
    let mut changes = ChangeSet::default().and(Change::VmAdded(Box::new(vm)));
    changes.changes.extend(storage.into_iter().map(Change::StorageAdded));
    changes.changes.extend(snapshots.into_iter().map(|record| Change::SnapshotAdded(Box::new(record))));
    Ok(Done::changing(added, id, changes).event(event).undone_by(&inverse))
}

/// Refuses records of images that another VM has taken over.
async fn require_free(app: &App, storage: &[StorageRecord]) -> Result<(), Error> {
    if storage.is_empty() {
        return Ok(());
    }
    let free = app.ports.store.storage_without_vm().await?;
    let is_free = |record: &&StorageRecord| !record.is_created() || free.iter().any(|other| other.path == record.path);
    match storage.iter().find(|record| !is_free(record)) {
        Some(taken) => Err(HistoryError::from(Unexpected::ImageTaken { path: taken.path.clone() }).into()),
        None => Ok(()),
    }
}
