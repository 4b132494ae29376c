//! The VM of a run: one that boots, or one that goes on from a template.

use maqet_domain::config::Problem;
use maqet_domain::port::Guard;
use maqet_domain::vm::{Vm, VmEntry, VmName};

use super::Run;
use crate::app::operations::Operation;
use crate::config::Layers;
use crate::operation::ForkNetwork;
use crate::operation::checkpoint::fork::making::{Defined, ForkName, define, require_forkable};
use crate::operation::template::making::fresh;
use crate::template::error::TemplateError;
use crate::template::inputs::inputs;
use crate::template::{Template, newest};
use crate::throw_away::definition::{Base, ImagesOf, Original, Share, ThrowAway};
use crate::wait::condition::Condition;
use crate::{App, Error};

/// A VM that is defined, and goes with this process.
pub(super) struct Prepared {
    pub(super) vm: VmEntry,
    pub(super) warnings: Vec<Problem>,
    pub(super) guard: Box<dyn Guard>,
    /// What it goes on from.
    pub(super) template: Option<Template>,
    /// Why the template was rebuilt, if it was.
    pub(super) rebuilt: Option<String>,
}

/// Defines the VM of a run.
pub(super) async fn prepare(app: &App, run: &Run) -> Result<Prepared, Error> {
    if let Some(name) = &run.template {
        let name = VmName::parse(name)?;
        if !run.share.is_empty() {
            return Err(TemplateError::Fixed { name, what: "a share" }.into());
        }
        let (template, rebuilt) = Box::pin(fresh(app, &name, run.boot_timeout, Run::NAME)).await?;
        return Ok(Prepared { rebuilt, ..forked(app, template).await? });
    }
    let source: Option<Vm> = match &run.vm {
        Some(vm) => Some(app.vms().find(vm).await?),
        None => None,
    };
    let layers = Layers { documents: &run.documents, flags: Vec::new(), set: &run.set, lenient: run.lenient };
    let original = Original::read(app, &layers, source.as_ref().map_or(Base::Nothing, Base::Vm)).await?;
    if let Some(template) = template_of(app, run, &original).await? {
        return forked(app, template).await;
    }
    let shares: Vec<Share<'_>> = run.share.iter().enumerate().map(|(index, share)| share.entry(index)).collect();
    let ThrowAway { vm, warnings, guard } = original.define(app, ImagesOf::Run(&shares), Run::NAME).await?;
    Ok(Prepared { vm, warnings, guard, template: None, rebuilt: None })
}

/// Returns a template of the same definition that is fresh, and for which was waited at least as long.
async fn template_of(app: &App, run: &Run, original: &Original) -> Result<Option<Template>, Error> {
    let templates = newest(app).await?;
    if templates.is_empty() || !run.share.is_empty() {
        return Ok(None);
    }
    let inputs = inputs(app, original).await?;
    let fits = |template: &Template| {
        let has_met = |condition: &Condition| template.record.wait.contains(&condition.to_string());
        template.record.inputs.change(&inputs).is_none() && run.wait.iter().all(has_met)
    };
    Ok(templates.into_iter().find(fits))
}

async fn forked(app: &App, template: Template) -> Result<Prepared, Error> {
    // Until the images of the template are in use.
    let (_lock, _) = app.vms().lock(&template.vm.entry.id.to_string(), Run::NAME).await?;
    require_forkable(app, &template.found, ForkNetwork::Same).await?;
    let name = ForkName::OfThrowAway(template.record.name.clone());
    let Defined { entry, guard, .. } = define(app, &template.found, name, ForkNetwork::Same, Run::NAME).await?;
    Ok(Prepared { vm: entry, warnings: Vec::new(), guard, template: Some(template), rebuilt: None })
}
