//! `add`: defines a VM.

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::{Node, Problem, Value};
use maqet_domain::event::kind;
use maqet_domain::vm::VmName;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Rm;
use crate::app::operations::{Done, Effect, Operation};
use crate::config::{Document, Layers};
use crate::{App, Error};

/// Defines a VM from merged documents and flags.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// The documents, merged left to right.
    #[serde(default)]
    pub documents: Vec<Document>,
    /// The name; wins over one in the documents.
    #[serde(default)]
    pub name: Option<String>,
    /// RAM; wins over what the documents say.
    #[serde(default)]
    pub memory: Option<String>,
    /// The number of CPUs; wins over what the documents say.
    #[serde(default)]
    pub cpu: Option<String>,
    /// Single values as `key.path=value`; they win over the documents.
    #[serde(default)]
    pub set: Vec<String>,
    /// Defines a VM of defaults alone, without any document.
    #[serde(default)]
    pub empty: bool,
    /// Leaves out keys that nobody knows, instead of refusing them.
    #[serde(default)]
    pub lenient: bool,
}

/// The VM that was defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Added {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Keys that were left out because nobody knows them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
}

impl Operation for Add {
    const NAME: &'static str = "add";
    const EFFECT: Effect = Effect::Changes;
    type Output = Added;

    async fn run(&self, app: &App) -> Result<Done<Added>, Error> {
        if self.documents.is_empty() && !self.empty {
            return Err(Error::NothingGiven);
        }
        let flags = vec![("name", self.name.clone()), ("memory", self.memory.clone()), ("cpu", self.cpu.clone())];
        let layers = Layers { documents: &self.documents, flags, set: &self.set, lenient: self.lenient };
        let checked = app.checked(&layers, Node::empty_map()).await?;
        let (name, definition) = named(checked.definition)?;

        let vm = app.new_vm(name, definition);
        let id = vm.entry.id;
        let added = Added { id: id.to_string(), name: vm.entry.name.to_string(), warnings: checked.warnings };
        let event = app.event(kind::VM_DEFINED, &vm.entry, json!({}));
        let changes = ChangeSet::default().and(Change::VmAdded(Box::new(vm)));
        let inverse = Rm { vm: added.id.clone(), force: false };
        Ok(Done::changing(added, id, changes).telling(event).undone_by(&inverse))
    }
}

/// Takes the name out of a definition: it is the VM's, and no part of its machine.
fn named(definition: Node) -> Result<(VmName, Node), Error> {
    let name = definition.get("name").and_then(Node::scalar).ok_or(Error::NameMissing)?;
    Ok((VmName::parse(&name)?, without_name(definition)))
}

/// Returns a definition without the VM's name.
pub(super) fn without_name(definition: Node) -> Node {
    definition.map_value(|value| match value {
        Value::Map(entries) => Value::Map(entries.into_iter().filter(|(key, _)| key != "name").collect()),
        other => other,
    })
}
