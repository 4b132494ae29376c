//! `apply`: changes a VM's definition.

use crate::history::{require_expected, restore_records};
use derive_setters::Setters;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::{Node, Problem};
use maqet_domain::event::kind;
use maqet_domain::history::Expected;
use maqet_domain::revert::{Revert, RevertedRecord, StoredDefinition};
use maqet_domain::vm::Vm;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, Operation};
use crate::checkpoint::layers::require_bases;
use crate::config::{
    Difference, Document, Layers, check_layers, check_machine, differences, origins, with_locations, without_name,
};
use crate::start::mismatches::ImageMismatches;
use crate::{App, Error};

/// Changes a VM's definition.
///
/// With documents, they and the single values replace the definition; without, the single values change it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Apply {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// The documents, merged left to right.
    #[serde(default)]
    pub documents: Vec<Document>,
    /// RAM; overrides the documents.
    #[setters(strip_option)]
    pub memory: Option<String>,
    /// The number of CPUs; overrides the documents.
    #[setters(strip_option)]
    pub cpu: Option<String>,
    /// Single values, each as `key.path=value`; they override the documents.
    #[serde(default)]
    pub set: Vec<String>,
    /// Ignores unknown keys with a warning instead of refusing them.
    #[serde(default)]
    pub lenient: bool,
    /// Reports the changes without making them.
    #[serde(default)]
    pub dry_run: bool,
    /// What it has in addition if it reverts a change; `undo` sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(skip)]
    pub revert: Option<Box<Revert>>,
}

impl Apply {
    /// Changes the definition of the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), ..Self::default() }
    }
}

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakesEffect {
    /// Immediately.
    Now,
    /// At the next start, because the VM is running.
    NextStart,
}

/// One value that changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Changed {
    /// The value before and after.
    #[serde(flatten)]
    pub difference: Difference,
    /// When it takes effect.
    pub takes_effect: TakesEffect,
}

/// The result of changing a definition.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Applied {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// Whether the definition was changed.
    pub changed: bool,
    /// The values that differ.
    pub differences: Vec<Changed>,
    /// Unknown keys that were ignored, and what is probably not meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
    /// Images that differ from the definition; they stay as they are.
    #[serde(flatten)]
    pub mismatches: ImageMismatches,
}

/// Keys of the VM that are not part of its machine.
const EFFECTIVE_NOW: [&str; 2] = ["labels", "hooks"];

impl Operation for Apply {
    const NAME: &'static str = "apply";
    const EFFECT: Effect = Effect::Changes;
    type Output = Applied;

    fn revert(&self) -> Option<&Revert> {
        self.revert.as_deref()
    }

    async fn run(&self, app: &App) -> Result<Done<Applied>, Error> {
        if self.documents.is_empty()
            && self.memory.is_none()
            && self.cpu.is_none()
            && self.set.is_empty()
            && self.revert.is_none()
        {
            return Err(Error::ConfigRequired);
        }
        let (guard, vm) = app.vms().lock(&self.vm, Self::NAME).await?;
        if let Some(revert) = &self.revert {
            return Ok(revert_definition(app, &vm, revert).await?.holding(guard));
        }
        let base = if self.documents.is_empty() { with_locations(&vm) } else { Node::empty_map() };
        let flags = vec![("memory", self.memory.clone()), ("cpu", self.cpu.clone())];
        let layers = Layers { documents: &self.documents, flags, set: &self.set, lenient: self.lenient };
        let checked = check_layers(app, &layers, base).await?;
        if let Some(name) = checked.definition.get("name").and_then(Node::written)
            && name != vm.entry.name.as_str()
        {
            return Err(Error::NameConflict { vm: vm.entry.name, name });
        }
        let definition = without_name(checked.definition);

        require_bases(app, &vm, &definition).await?;
        let is_live = app.observer().observe_process(&vm.entry).await.status.is_live();
        let changed = differences(&vm.definition, &definition).into_iter().map(|difference| Changed {
            takes_effect: takes_effect(&difference, is_live),
            difference: difference.without_secrets(),
        });
        let applied = Applied {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            changed: !self.dry_run && vm.definition != definition,
            differences: changed.collect(),
            warnings: checked.warnings,
            mismatches: app.preflight().mismatches(&vm.entry.name, &check_machine(app, definition.clone())?).await,
        };
        if !applied.changed {
            return Ok(Done::reading(applied).holding(guard));
        }
        let event = app.committer().event(kind::VM_APPLIED, &vm.entry, json!({ "differences": applied.differences }));
        let inverse = reverting(&vm, &definition, Vec::new());
        let origins = origins(&definition);
        let change = Change::DefinitionChanged { id: vm.entry.id, expected: vm.entry.revision, definition, origins };
        Ok(Done::changing(applied, vm.entry.id, ChangeSet::default().and(change))
            .event(event)
            .undone_by(&inverse)
            .holding(guard))
    }
}

fn takes_effect(difference: &Difference, is_live: bool) -> TakesEffect {
    let key = difference.path.split(['.', '[']).next().unwrap_or_default();
    if is_live && !EFFECTIVE_NOW.contains(&key) { TakesEffect::NextStart } else { TakesEffect::Now }
}

/// Returns the call that restores the definition that a VM has, and records of its images, after `new` has replaced it.
pub(crate) fn reverting(vm: &Vm, new: &Node, records: Vec<RevertedRecord>) -> Apply {
    let expected = Expected { vm: Some(vm.entry.id), ..Expected::default() }.with_definition(new);
    let definition = Some(StoredDefinition { definition: vm.definition.clone(), origins: vm.origins.clone() });
    let revert = Revert { definition, records, ..Revert::new(expected) };
    Apply { vm: vm.entry.id.to_string(), revert: Some(Box::new(revert)), ..Apply::default() }
}

/// Writes the definition and the records of images as they were.
async fn revert_definition(app: &App, vm: &Vm, revert: &Revert) -> Result<Done<Applied>, Error> {
    require_expected(app, Some(revert), Some(vm)).await?;
    let stored = revert.definition.clone().ok_or(Error::ConfigRequired)?;
    require_bases(app, vm, &stored.definition).await?;
    let is_live = app.observer().observe_process(&vm.entry).await.status.is_live();
    let values = differences(&vm.definition, &stored.definition).into_iter().map(|difference| Changed {
        takes_effect: takes_effect(&difference, is_live),
        difference: difference.without_secrets(),
    });
    let mut applied = Applied {
        id: vm.entry.id.to_string(),
        name: vm.entry.name.to_string(),
        changed: true,
        differences: values.collect(),
        warnings: Vec::new(),
        mismatches: ImageMismatches::default(),
    };
    if let Ok(machine) = check_machine(app, stored.definition.clone()) {
        applied.mismatches = app.preflight().mismatches(&vm.entry.name, &machine).await;
    }
    let event = app.committer().event(kind::VM_APPLIED, &vm.entry, json!({ "differences": applied.differences }));
    let mut records = Vec::new();
    for RevertedRecord { path, .. } in &revert.records {
        records.push(RevertedRecord { path: path.clone(), record: app.ports.store.storage_at(path).await? });
    }
    let inverse = reverting(vm, &stored.definition, records);
    let (id, expected) = (vm.entry.id, vm.entry.revision);
    let StoredDefinition { definition, origins } = stored;
    let mut changes = ChangeSet::default().and(Change::DefinitionChanged { id, expected, definition, origins });
    changes.changes.extend(restore_records(app, id, &revert.records).await?);
    Ok(Done::changing(applied, id, changes).event(event).undone_by(&inverse))
}
