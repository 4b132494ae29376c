//! `template rm`.

use derive_setters::Setters;
use maqet_domain::vm::VmName;
use serde::{Deserialize, Serialize};

use super::making::{discard, lock};
use crate::app::operations::{Done, Effect, Operation};
use crate::template::{all, find};
use crate::{App, Error};

/// Remove templates
///
/// A template that a VM builds on is not removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct TemplateRm {
    /// The templates
    #[cfg_attr(feature = "clap", arg(required = true, value_name = "NAME"))]
    pub names: Vec<String>,
}

impl TemplateRm {
    /// Removes these templates.
    pub fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self { names: names.into_iter().map(Into::into).collect() }
    }
}

/// Templates that were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TemplateRemoved {
    /// Their names.
    pub removed: Vec<String>,
}

impl Operation for TemplateRm {
    const NAME: &'static str = "template.rm";
    const EFFECT: Effect = Effect::Acts;
    type Output = TemplateRemoved;

    async fn run(&self, app: &App) -> Result<Done<TemplateRemoved>, Error> {
        let mut names = Vec::new();
        for name in &self.names {
            let name = VmName::parse(name)?;
            find(app, &name).await?;
            names.push(name);
        }
        let mut removed = Vec::new();
        for name in names {
            let _one_at_a_time = lock(app, &name, Self::NAME).await?;
            for template in all(app).await?.iter().filter(|template| template.record.name == name) {
                Box::pin(discard(app, template, Self::NAME)).await?;
            }
            removed.push(name.to_string());
        }
        Ok(Done::reading(TemplateRemoved { removed }))
    }
}
