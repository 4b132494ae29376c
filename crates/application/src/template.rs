//! Templates: VMs that have booted, kept for forks.
//!
//! ```text
//!              a VM that is          its conditions        a checkpoint is       QEMU is ended, and the
//!              thrown away           are met               complete              VM is one that stays
//!  nothing ──▶ defined ────────────▶ booted ─────────────▶ saved ──────────────▶ fresh ◀──────────┐
//!                 │                    │                     │                     │ something     │ another
//!                 ▼                    ▼                     ▼                     ▼ has changed   │ one is made
//!              removed, as it has the label of VMs that are thrown away          stale ────────────┘
//!                                                                                  │ nothing builds on it
//!                                                                                  ▼
//!                                                                                removed
//! ```
//!
//! A template is a VM with a checkpoint, and that checkpoint records of what it was made. Its name begins with `template+`,
//! and ends with the beginning of its ID. Until it is complete, it is a VM that is [thrown away](crate::throw_away): what a
//! process leaves that is killed, the next one removes. A template that is rebuilt is another VM, so that forks of the old
//! one go on; the newest counts.
//!
//! - `operation::template::making` makes and removes templates, and rebuilds those that are stale.
//! - [`inputs`] finds of what a template would be made now.
//! - [`error`] is why a template is not made, found or removed.

pub(crate) mod error;
pub(crate) mod inputs;

use maqet_domain::checkpoint::{CheckpointName, TemplateRecord};
use maqet_domain::port::FoundCheckpoint;
use maqet_domain::vm::{Vm, VmName};

use self::error::TemplateError;
use crate::checkpoint::place::Place;
use crate::throw_away::Lifetime;
use crate::{App, Error};

/// The name of the checkpoint of a template.
pub(crate) const CHECKPOINT: &str = "template";

/// A template that is complete.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) vm: Vm,
    pub(crate) found: FoundCheckpoint,
    pub(crate) record: TemplateRecord,
}

/// Returns all templates, also those that a newer one has replaced, the oldest first.
pub(crate) async fn all(app: &App) -> Result<Vec<Template>, Error> {
    let mut all = Vec::new();
    for entry in app.ports.store.list().await? {
        if !TemplateRecord::is_vm_name(&entry.name, &entry.id) {
            continue;
        }
        let Some(vm) = app.ports.store.by_id(&entry.id).await? else { continue };
        if Lifetime::of(&vm) != Lifetime::Unlimited {
            continue;
        }
        for found in Place::read(app, &entry.id).await?.listing.checkpoints {
            if let Some(record) = found.manifest.template.clone() {
                all.push(Template { vm: vm.clone(), record: *record, found });
            }
        }
    }
    all.sort_by_key(|template| template.found.manifest.taken_at);
    Ok(all)
}

/// Returns the newest template of each name, by name.
pub(crate) async fn newest(app: &App) -> Result<Vec<Template>, Error> {
    let mut all = all(app).await?;
    all.reverse();
    // The sort is stable, so the newest of each name comes first.
    all.sort_by(|one, other| one.record.name.cmp(&other.record.name));
    all.dedup_by(|later, first| later.record.name == first.record.name);
    Ok(all)
}

/// Finds the newest template of a name.
pub(crate) async fn find(app: &App, name: &VmName) -> Result<Template, Error> {
    let mut newest = newest(app).await?;
    if let Some(found) = newest.iter().position(|template| template.record.name == *name) {
        return Ok(newest.swap_remove(found));
    }
    let known = newest.into_iter().map(|template| template.record.name).collect();
    Err(TemplateError::NotFound { name: name.clone(), known }.into())
}

/// Returns the name of the checkpoint of a template.
pub(crate) fn checkpoint_name() -> CheckpointName {
    CheckpointName::parse(CHECKPOINT).unwrap_or_else(|_| unreachable!("it is a name"))
}
