//! `add`: defines a VM.

use derive_setters::Setters;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::{Node, Problem};
use maqet_domain::event::kind;
use maqet_domain::vm::{Revision, Vm, VmEntry, VmName};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Rm;
use crate::app::operations::{Done, Effect, Operation};
use crate::config::{Document, Layers, check_layers, origins, without_name};
use crate::{App, Error};

/// Defines a VM from merged documents and single values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
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

    async fn run(&self, app: &App) -> Result<Done<Added>, Error> {
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
        let changes = ChangeSet::default().and(Change::VmAdded(Box::new(vm)));
        let inverse = Rm::new(added.id.clone());
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
    };
    Vm { entry, definition, origins }
}

/// Takes the name out of a definition: it belongs to the VM, not to its machine.
fn split_name(definition: Node) -> Result<(VmName, Node), Error> {
    let name = definition.get("name").and_then(Node::written).ok_or(Error::NameRequired)?;
    Ok((VmName::parse(&name)?, without_name(definition)))
}
