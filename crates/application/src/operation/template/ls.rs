//! `template ls`.

use derive_setters::Setters;
use maqet_domain::Timestamp;
use maqet_domain::checkpoint::TemplateSource;
use serde::{Deserialize, Serialize};

use super::making::change;
use crate::app::operations::{Done, Effect, Operation};
use crate::template::{Template, newest};
use crate::{App, Error};

/// List templates, by name
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct TemplateLs {}

impl TemplateLs {
    /// Lists all templates.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Templates.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TemplateList {
    /// The templates, by name.
    pub templates: Vec<TemplateSummary>,
}

/// A template in a list.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TemplateSummary {
    /// Its name.
    pub name: String,
    /// What it was made of: the name of a VM, or those of documents.
    pub from: Vec<String>,
    /// What was waited for before it was saved.
    pub wait: Vec<String>,
    /// When it was saved.
    pub taken_at: Timestamp,
    /// How long it took to boot, in milliseconds.
    pub boot_ms: u64,
    /// The memory of the guest, in bytes.
    pub memory_bytes: u64,
    /// The space that memory and devices take, in bytes.
    pub saved_bytes: u64,
    /// Its VM, which `fork` takes as `VM@template`.
    pub vm: String,
    /// Why it is rebuilt before its next use, if it is.
    pub stale: Option<String>,
}

impl TemplateSummary {
    pub(crate) fn new(template: &Template, stale: Option<String>) -> Self {
        let (manifest, record) = (&template.found.manifest, &template.record);
        Self {
            name: record.name.to_string(),
            from: match &record.source {
                TemplateSource::Vm { name, .. } => vec![name.to_string()],
                TemplateSource::Definition { from } => from.clone(),
            },
            wait: record.wait.clone(),
            taken_at: manifest.taken_at,
            boot_ms: record.boot_ms,
            memory_bytes: manifest.ram.bytes,
            saved_bytes: manifest.ram.used_bytes.saturating_add(manifest.state.bytes),
            vm: template.vm.entry.name.to_string(),
            stale,
        }
    }
}

impl Operation for TemplateLs {
    const NAME: &'static str = "template.ls";
    const EFFECT: Effect = Effect::Reads;
    type Output = TemplateList;

    async fn run(&self, app: &App) -> Result<Done<TemplateList>, Error> {
        let mut templates = Vec::new();
        for template in newest(app).await? {
            let stale = match Box::pin(change(app, &template)).await {
                Ok(change) => change,
                Err(error) => Some(crate::maintenance::error_chain(&error)),
            };
            templates.push(TemplateSummary::new(&template, stale));
        }
        Ok(Done::reading(TemplateList { templates }))
    }
}
