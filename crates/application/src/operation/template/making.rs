//! Making templates, rebuilding and removing them.

use std::time::Duration;

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::checkpoint::{TemplateInputs, TemplateRecord, TemplateSource};
use maqet_domain::config::{Node, Problem};
use maqet_domain::port::{Guard, LockName};
use maqet_domain::vm::{THROW_AWAY_LABEL, Vm, VmEntry, VmName};
use tokio::time::Instant;

use crate::app::commit::work_done;
use crate::app::operations::Operation;
use crate::checkpoint::create::{Request, created_event, take};
use crate::config::{Layers, merge, origins};
use crate::operation::checkpoint::fork::network;
use crate::operation::{ForkNetwork, Since, Start, Stop, Wait};
use crate::template::error::TemplateError;
use crate::template::inputs::inputs;
use crate::template::{Template, all, checkpoint_name, find};
use crate::throw_away::definition::{Base, ImagesOf, Original, ThrowAway, map};
use crate::throw_away::{Lifetime, keep, remove, remove_left_over};
use crate::trash::used_files::UsedFiles;
use crate::wait::condition::Condition;
use crate::wait::since::WaitSince;
use crate::{App, Error, HumanDuration, limits};

/// What is to be made.
pub(crate) struct Order {
    pub(crate) name: VmName,
    pub(crate) source: TemplateSource,
    /// What is waited for before the checkpoint.
    pub(crate) wait: Vec<Condition>,
    pub(crate) boot_timeout: Option<HumanDuration>,
}

/// A template that was made.
pub(crate) struct Made {
    pub(crate) template: Template,
    /// Unknown keys that were ignored, and what is probably not meant.
    pub(crate) warnings: Vec<Problem>,
}

/// Locks the making of a template of this name; another process that makes one is waited for.
pub(crate) async fn lock(app: &App, name: &VmName, operation: &'static str) -> Result<Box<dyn Guard>, Error> {
    let locked = app.ports.locks.lock(&LockName::Template(name.clone()), operation, limits::RUN_BOOT_TIMEOUT).await;
    locked.map_err(|error| error.about(name.as_str()).into())
}

/// Makes a template, whose name is locked; nothing is left of one that fails.
pub(crate) async fn make(app: &App, order: &Order, original: Original, operation: &'static str) -> Result<Made, Error> {
    // What cannot be forked is not booted for it.
    let reasons = network::reasons(&original.machine, &[], ForkNetwork::Same);
    if !reasons.is_empty() {
        return Err(TemplateError::NotForkable { name: order.name.clone(), reasons }.into());
    }
    let inputs = inputs(app, &original).await?;
    let vm_name = VmName::parse(&TemplateRecord::vm_name(&order.name))?;
    let original = original.named(&vm_name);
    let ThrowAway { vm, warnings, mut guard } = original.define(app, ImagesOf::Template, operation).await?;
    let made = async {
        Box::pin(boot_and_save(app, &vm, order, inputs, operation)).await?;
        keep(app, &vm.id, Lifetime::Unlimited, |definition| definition, operation).await?;
        find(app, &order.name).await
    };
    match made.await {
        Ok(template) => {
            guard.retire();
            remove_replaced(app, &template, operation).await;
            Ok(Made { template, warnings })
        }
        Err(error) => {
            match remove(app, &vm.id, operation).await {
                Ok(_) => guard.retire(),
                // The next process finds it.
                Err(error) => tracing::warn!(vm = %vm.name, %error, "could not remove a template that failed"),
            }
            Err(error)
        }
    }
}

async fn boot_and_save(
    app: &App,
    vm: &VmEntry,
    order: &Order,
    inputs: TemplateInputs,
    operation: &'static str,
) -> Result<(), Error> {
    let began = Instant::now();
    let id = vm.id.to_string();
    // It ends with this process.
    let started = app.run(Start::new(&id).foreground(true)).await?;
    let conditions = if order.wait.is_empty() { vec![Condition::Agent] } else { order.wait.clone() };
    let wait = conditions.iter().map(ToString::to_string).collect();
    let limit = order.boot_timeout.unwrap_or(HumanDuration::new(limits::RUN_BOOT_TIMEOUT));
    let since = started.vm.started_at.map(|at| WaitSince::Moment(Since::At(at)));
    Box::pin(Wait::new(&id, conditions).timeout(limit).since(since).run(app)).await?;

    let boot_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let record = TemplateRecord { name: order.name.clone(), source: order.source.clone(), wait, boot_ms, inputs };
    let (guard, vm) = app.vms().lock(&id, operation).await?;
    {
        let job = app.jobs.start(operation, &vm.entry.name);
        let request = Request {
            name: checkpoint_name(),
            description: None,
            is_durable: true,
            is_temporary: false,
            template: Some(Box::new(record)),
        };
        let created = take(app, &job, (&*guard, &vm), request, None, operation).await?;
        let mut changes = ChangeSet::default().and(work_done(&created.entry));
        changes.events.push(created_event(app, &created.entry, &created.manifest));
        app.committer().commit(changes).await?;
    }
    drop(guard);
    app.run(Stop::new(&id).force(true)).await?;
    Ok(())
}

/// Returns what a template is made of, as it is now.
pub(crate) async fn original(app: &App, record: &TemplateRecord) -> Result<Original, Error> {
    let layers = Layers { documents: &[], flags: Vec::new(), set: &[], lenient: true };
    match &record.source {
        TemplateSource::Vm { id, .. } => {
            let vm = app.vms().find(&id.to_string()).await?;
            Original::read(app, &layers, Base::Vm(&vm)).await
        }
        TemplateSource::Definition { .. } => {
            Original::read(app, &layers, Base::Definition(&record.inputs.definition)).await
        }
    }
}

/// Returns a template that is fresh, rebuilt if it was stale, and why that was.
pub(crate) async fn fresh(
    app: &App,
    name: &VmName,
    boot_timeout: Option<HumanDuration>,
    operation: &'static str,
) -> Result<(Template, Option<String>), Error> {
    let template = find(app, name).await?;
    if change(app, &template).await?.is_none() {
        return Ok((template, None));
    }
    let _one_at_a_time = lock(app, name, operation).await?;
    // Another process may have made it meanwhile.
    let template = find(app, name).await?;
    let Some(change) = change(app, &template).await? else { return Ok((template, None)) };
    let TemplateRecord { source, wait, .. } = template.record.clone();
    let wait = wait.iter().filter_map(|condition| condition.parse().ok()).collect();
    let order = Order { name: name.clone(), source, wait, boot_timeout };
    let original = original(app, &template.record).await?;
    let made = Box::pin(make(app, &order, original, operation)).await?;
    Ok((made.template, Some(change)))
}

/// Returns why a template is stale; `None` if it is fresh.
pub(crate) async fn change(app: &App, template: &Template) -> Result<Option<String>, Error> {
    let now = inputs(app, &original(app, &template.record).await?).await?;
    Ok(template.record.inputs.change(&now))
}

/// Removes the templates that a newer one has replaced, as far as nothing builds on them.
async fn remove_replaced(app: &App, newest: &Template, operation: &'static str) {
    let replaced = match all(app).await {
        Ok(all) => {
            all.into_iter().filter(|one| one.record.name == newest.record.name && one.vm.entry.id != newest.vm.entry.id)
        }
        Err(error) => return tracing::warn!(%error, "could not search for templates that were replaced"),
    };
    for template in replaced {
        match discard(app, &template, operation).await {
            Ok(()) => {}
            Err(error) => tracing::info!(vm = %template.vm.entry.name, %error, "a template that was replaced stays"),
        }
    }
}

/// Removes a template, unless something builds on it.
pub(crate) async fn discard(app: &App, template: &Template, operation: &'static str) -> Result<(), Error> {
    let id = template.vm.entry.id;
    let mut throwing_away = app.ports.locks.lock(&LockName::ThrowAway(id), operation, Duration::ZERO).await?;
    let (guard, vm) = match app.vms().lock(&id.to_string(), operation).await {
        Ok(locked) => locked,
        Err(error) => {
            throwing_away.retire();
            return Err(error);
        }
    };
    let marked = match require_unused(app, template).await {
        Ok(()) => mark(app, vm).await,
        Err(error) => Err(error),
    };
    drop(guard);
    let removed = match marked {
        Ok(()) => remove(app, &id, operation).await.map(drop),
        Err(error) => Err(error),
    };
    let left = app.ports.store.by_id(&id).await;
    // One that is to be thrown away and stays is found by its lock.
    if !matches!(left, Ok(Some(vm)) if Lifetime::of(&vm) == Lifetime::OfProcess) {
        throwing_away.retire();
    }
    removed
}

/// Has a VM be thrown away, so that a removal that is cut off is finished by the next process.
async fn mark(app: &App, vm: Vm) -> Result<(), Error> {
    let label = map([("labels", map([(THROW_AWAY_LABEL, Node::text("true"))]))]);
    let definition = merge(vm.definition, label, app.handlers());
    let (id, expected, origins) = (vm.entry.id, vm.entry.revision, origins(&definition));
    let change = Change::DefinitionChanged { id, expected, definition, origins };
    Ok(app.committer().commit(ChangeSet::default().and(change)).await?)
}

async fn require_unused(app: &App, template: &Template) -> Result<(), Error> {
    remove_left_over(app, "template.rm").await;
    let others = UsedFiles::of_all_but_vm(app, &template.vm.entry.id).await?;
    let mut uses = Vec::new();
    for disk in &template.found.manifest.disks {
        uses.extend(others.uses_of(&disk.file).await);
    }
    if uses.is_empty() {
        return Ok(());
    }
    Err(TemplateError::InUse { name: template.record.name.clone(), uses }.into())
}
