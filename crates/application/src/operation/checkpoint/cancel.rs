//! `checkpoint cancel`.

use derive_setters::Setters;
use maqet_domain::checkpoint::CheckpointName;
use maqet_domain::vm::VmId;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::checkpoint::cancel;
use crate::checkpoint::error::CheckpointError;
use crate::{App, Error, limits};

/// Give up a checkpoint that is being taken of a VM
///
/// Nothing is left of it. With QEMU before 10.0, whose guests would hang, QEMU first writes to the end; so does the command
/// wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct CheckpointCancel {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
}

impl CheckpointCancel {
    /// Gives up the checkpoint that is being taken of the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into() }
    }
}

/// The result of giving up a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckpointCanceled {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The checkpoint.
    pub checkpoint: String,
    /// Whether it was given up; it may have been complete just before.
    pub canceled: bool,
}

impl Operation for CheckpointCancel {
    const NAME: &'static str = "checkpoint.cancel";
    const EFFECT: Effect = Effect::Acts;
    type Output = CheckpointCanceled;

    async fn run(&self, app: &App) -> Result<Done<CheckpointCanceled>, Error> {
        let entry = app.vms().find(&self.vm).await?.entry;
        let Some(work) = cancel::under_way(&entry).cloned() else {
            return Err(CheckpointError::NothingToCancel { vm: entry.name }.into());
        };
        // The process that takes it ends; if it is gone, this one does its work.
        while is_under_way(app, &entry.id).await? {
            if let Err(error) = cancel::request(app, &work).await {
                // Its directory does not exist yet, or it may have been complete just before.
                tracing::debug!(%error, "could not leave a note that a checkpoint is to be given up");
            }
            let vms = app.vms();
            match vms.lock_unrecovered(&entry.id.to_string(), Self::NAME, limits::RETRY_INTERVAL).await {
                Err(Error::Lock(_)) => {}
                Err(error) => return Err(error),
                Ok((guard, vm)) => {
                    vms.recover(vm, &*guard).await?;
                    break;
                }
            }
        }
        let name = work.complete.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let canceled = !app.ports.images.exists(&work.complete).await;
        let checkpoint = CheckpointName::parse(&name).map(|name| name.to_string()).unwrap_or(name);
        let (id, name) = (entry.id.to_string(), entry.name.to_string());
        Ok(Done::reading(CheckpointCanceled { id, name, checkpoint, canceled }).about(entry.id))
    }
}

async fn is_under_way(app: &App, id: &VmId) -> Result<bool, Error> {
    Ok(app.ports.store.by_id(id).await?.is_some_and(|vm| cancel::under_way(&vm.entry).is_some()))
}
