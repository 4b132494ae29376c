//! `template create`.

use derive_setters::Setters;
use maqet_domain::checkpoint::TemplateSource;
use maqet_domain::config::Problem;
use maqet_domain::vm::{Vm, VmName};
use serde::{Deserialize, Serialize};

use super::TemplateSummary;
use super::making::{Order, lock, make};
use crate::app::operations::{Done, Effect, Operation};
use crate::config::{Document, Layers};
use crate::template::error::TemplateError;
use crate::template::newest;
use crate::throw_away::definition::{Base, Original};
use crate::throw_away::remove_left_over;
use crate::wait::condition::Condition;
use crate::{App, Error, HumanDuration};

/// Makes a template: boots a VM of documents or of another VM, and keeps it for forks as it is then.
///
/// The disks are overlays, so that nothing of them is written. The VM is stopped once its checkpoint is complete.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, Setters)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct TemplateCreate {
    /// The name of the template.
    pub name: String,
    /// The VM whose definition and disks are used; without it, those of the documents.
    pub vm: Option<String>,
    /// Documents, merged left to right; none if there is a VM.
    pub documents: Vec<Document>,
    /// Single values, each as `key.path=value`, that override the documents.
    pub set: Vec<String>,
    /// Ignores unknown keys with a warning instead of refusing them.
    pub lenient: bool,
    /// What to wait for before; `agent` by default.
    pub wait: Vec<Condition>,
    /// How long that may take; five minutes by default.
    pub boot_timeout: Option<HumanDuration>,
}

impl TemplateCreate {
    /// Makes the template `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// A template that was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TemplateCreated {
    /// The template.
    #[serde(flatten)]
    pub template: TemplateSummary,
    /// Unknown keys that were ignored, and what is probably not meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
}

impl Operation for TemplateCreate {
    const NAME: &'static str = "template.create";
    const EFFECT: Effect = Effect::Acts;
    type Output = TemplateCreated;

    async fn run(&self, app: &App) -> Result<Done<TemplateCreated>, Error> {
        Box::pin(self.create(app)).await
    }
}

impl TemplateCreate {
    async fn create(&self, app: &App) -> Result<Done<TemplateCreated>, Error> {
        if self.documents.is_empty() && self.vm.is_none() {
            return Err(Error::ConfigRequired);
        }
        let name = VmName::parse(&self.name)?;
        // What is made of a VM changes with its definition.
        if self.vm.is_some() && !(self.documents.is_empty() && self.set.is_empty()) {
            return Err(TemplateError::SourceConflict { name }.into());
        }
        remove_left_over(app, Self::NAME).await;
        let vm: Option<Vm> = match &self.vm {
            Some(vm) => Some(app.vms().find(vm).await?),
            None => None,
        };
        let layers = Layers { documents: &self.documents, flags: Vec::new(), set: &self.set, lenient: self.lenient };
        let base = vm.as_ref().map_or(Base::Nothing, Base::Vm);
        let original = Original::read(app, &layers, base).await?;
        let source = if let Some(vm) = &vm {
            TemplateSource::Vm { id: vm.entry.id, name: vm.entry.name.clone() }
        } else {
            let from = self.documents.iter().map(|document| document.name.clone()).collect();
            TemplateSource::Definition { from }
        };
        let _one_at_a_time = lock(app, &name, Self::NAME).await?;
        if newest(app).await?.iter().any(|template| template.record.name == name) {
            return Err(TemplateError::Exists { name }.into());
        }
        let order = Order { name, source, wait: self.wait.clone(), boot_timeout: self.boot_timeout };
        let made = Box::pin(make(app, &order, original, Self::NAME)).await?;
        let template = TemplateSummary::new(&made.template, None);
        Ok(Done::reading(TemplateCreated { template, warnings: made.warnings }).about(made.template.vm.entry.id))
    }
}
