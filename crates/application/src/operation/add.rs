//! `add`: defines a VM.

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::{Node, Value};
use maqet_domain::event::kind;
use maqet_domain::machine::Machine;
use maqet_domain::vm::VmName;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Rm;
use crate::call::{Done, Effect, Operation};
use crate::config::{ConfigError, Document, load};
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
    /// Defines a VM of defaults alone, without any document.
    #[serde(default)]
    pub empty: bool,
}

/// The VM that was defined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
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
        let (definition, sources) = load(&self.documents, flags, app.handlers())?;
        Machine::check(&definition, app.handlers()).map_err(|problems| ConfigError::new(problems, sources))?;
        let (name, definition) = named(definition)?;

        let vm = app.new_vm(name, definition);
        let added = Added { id: vm.entry.id.to_string(), name: vm.entry.name.to_string() };
        let id = vm.entry.id;
        let event = app.event(kind::VM_DEFINED, &vm.entry, json!({}));
        let changes = ChangeSet::default().and(Change::VmAdded(Box::new(vm)));
        let inverse = Rm { vm: added.id.clone(), force: false };
        Ok(Done::changing(added, id, changes).telling(event).undone_by(&inverse))
    }
}

/// Takes the name out of a definition: it is the VM's, and no part of its machine.
fn named(definition: Node) -> Result<(VmName, Node), Error> {
    let name = definition.get("name").and_then(Node::scalar).ok_or(Error::NameMissing)?;
    let name = VmName::parse(&name)?;
    let entries = definition.entries().iter().filter(|(key, _)| key != "name").cloned().collect();
    Ok((name, definition.map_value(|_| Value::Map(entries))))
}
