//! `apply`: changes a VM's definition.

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::{Node, Problem};
use maqet_domain::event::kind;
use maqet_domain::vm::Vm;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::add::without_name;
use crate::app::operations::{Done, Effect, Operation};
use crate::config::{Difference, Document, Layers, differences, origins, placed};
use crate::start::size_mismatch::SizeMismatch;
use crate::{App, Error};

/// Changes a VM's definition.
///
/// With documents, the definition becomes what they and the flags say; without, the flags change single values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
    /// The documents, merged left to right.
    #[serde(default)]
    pub documents: Vec<Document>,
    /// RAM; wins over what the documents say.
    #[serde(default)]
    pub memory: Option<String>,
    /// The number of CPUs; wins over what the documents say.
    #[serde(default)]
    pub cpu: Option<String>,
    /// Single values as `key.path=value`; they win over the documents.
    #[serde(default)]
    pub set: Vec<String>,
    /// Leaves out keys that nobody knows, instead of refusing them.
    #[serde(default)]
    pub lenient: bool,
    /// Only tells what would change.
    #[serde(default)]
    pub dry_run: bool,
}

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakesEffect {
    /// At once.
    Now,
    /// At the next start of the VM, which runs.
    NextStart,
}

/// One value that changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed {
    /// What changes.
    #[serde(flatten)]
    pub difference: Difference,
    /// When that takes effect.
    pub takes_effect: TakesEffect,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Applied {
    /// The VM's id.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// Whether the definition was changed.
    pub changed: bool,
    /// The values that are different.
    pub differences: Vec<Changed>,
    /// Keys that were left out because nobody knows them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
    /// Drives whose images keep another size than the definition says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub size_mismatches: Vec<SizeMismatch>,
}

/// Keys that are about the VM and not about its machine.
const EFFECT_AT_ONCE: [&str; 2] = ["labels", "hooks"];

impl Operation for Apply {
    const NAME: &'static str = "apply";
    const EFFECT: Effect = Effect::Changes;
    type Output = Applied;

    async fn run(&self, app: &App) -> Result<Done<Applied>, Error> {
        if self.documents.is_empty() && self.memory.is_none() && self.cpu.is_none() && self.set.is_empty() {
            return Err(Error::NothingGiven);
        }
        let (guard, vm) = app.lock(&self.vm, Self::NAME).await?;
        let base = if self.documents.is_empty() { placed(&vm) } else { Node::empty_map() };
        let flags = vec![("memory", self.memory.clone()), ("cpu", self.cpu.clone())];
        let layers = Layers { documents: &self.documents, flags, set: &self.set, lenient: self.lenient };
        let checked = app.checked(&layers, base).await?;
        if let Some(name) = checked.definition.get("name").and_then(Node::scalar)
            && name != vm.entry.name.as_str()
        {
            return Err(Error::OtherName { vm: vm.entry.name, given: name });
        }
        let definition = without_name(checked.definition);

        let is_live = app.observe_process(&vm.entry).await.status.is_live();
        let changed = differences(&vm.definition, &definition)
            .into_iter()
            .map(|difference| Changed { takes_effect: takes_effect(&difference, is_live), difference });
        let applied = Applied {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            changed: !self.dry_run && vm.definition != definition,
            differences: changed.collect(),
            warnings: checked.warnings,
            size_mismatches: app.size_mismatches(&vm.entry, &app.machine_defined_by(definition.clone())?).await,
        };
        if !applied.changed {
            return Ok(Done::reading(applied).holding(guard));
        }
        let event = app.event(kind::VM_APPLIED, &vm.entry, json!({ "differences": applied.differences }));
        let inverse = back(&vm)?;
        let origins = origins(&definition);
        let change = Change::DefinitionChanged { id: vm.entry.id, expected: vm.entry.revision, definition, origins };
        Ok(Done::changing(applied, vm.entry.id, ChangeSet::default().and(change))
            .telling(event)
            .undone_by(&inverse)
            .holding(guard))
    }
}

fn takes_effect(difference: &Difference, is_live: bool) -> TakesEffect {
    let key = difference.path.split(['.', '[']).next().unwrap_or_default();
    if is_live && !EFFECT_AT_ONCE.contains(&key) { TakesEffect::NextStart } else { TakesEffect::Now }
}

/// Returns the call that brings the definition back; JSON is YAML, so it is a document.
fn back(vm: &Vm) -> Result<Apply, Error> {
    let document = Document::of_definition(&vm.entry.name, &vm.definition)?;
    Ok(Apply { vm: vm.entry.id.to_string(), documents: vec![document], ..Apply::default() })
}
