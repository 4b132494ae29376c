//! `checkpoint rm`.

use std::path::PathBuf;

use derive_setters::Setters;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::history::Irreversible;
use maqet_domain::port::FoundCheckpoint;
use maqet_domain::vm::{Status, VmEntry, VmId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::commit::work_done;
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::merge;
use crate::checkpoint::place::Place;
use crate::throw_away::remove_left_over;
use crate::trash::used_files::UsedFiles;
use crate::{App, Error};

/// Remove checkpoints, and merge the layers that nothing needs any more
///
/// The VM may be running. A layer is merged once neither a checkpoint that stays nor another VM builds on the image below
/// it; without checkpoints, the disks of the definition are the disks of the guest again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct CheckpointRm {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The checkpoints
    #[cfg_attr(feature = "clap", arg(required_unless_present = "all", value_name = "NAME"))]
    #[serde(default)]
    pub names: Vec<String>,
    /// Remove all checkpoints
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, conflicts_with = "names"))]
    pub all: bool,
}

impl CheckpointRm {
    /// Removes these checkpoints of the VM `vm`.
    pub fn new<N: Into<String>>(vm: impl Into<String>, names: impl IntoIterator<Item = N>) -> Self {
        Self { vm: vm.into(), names: names.into_iter().map(Into::into).collect(), all: false }
    }
}

/// Checkpoints that were removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckpointRemoved {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The checkpoints.
    pub removed: Vec<String>,
    /// The layers that were merged.
    pub merged: Vec<String>,
    /// The layers that stay, because a checkpoint or another VM needs the image below one of them.
    pub kept: Vec<String>,
}

impl Operation for CheckpointRm {
    const NAME: &'static str = "checkpoint.rm";
    const EFFECT: Effect = Effect::Notes;
    type Output = CheckpointRemoved;

    fn irreversible(&self) -> Option<Irreversible> {
        Some(Irreversible::CheckpointDeleted)
    }

    async fn run(&self, app: &App) -> Result<Done<CheckpointRemoved>, Error> {
        Box::pin(self.remove(app)).await
    }
}

impl CheckpointRm {
    async fn remove(&self, app: &App) -> Result<Done<CheckpointRemoved>, Error> {
        // Forks that have stopped and are to go do not keep a checkpoint.
        remove_left_over(app, Self::NAME).await;
        let (guard, vm) = app.vms().lock(&self.vm, Self::NAME).await?;
        let directories = self.directories(app, &vm.entry).await?;
        let status = app.observer().observe_locked(&vm.entry).await.status;
        require_state(&vm.entry, status)?;
        let plan = merge::plan(app, &vm.entry, &directories).await?;
        let layers = &plan.merged;
        if !layers.is_empty() && merge::is_saved(app, &vm.entry).await? {
            return Err(CheckpointError::SavedWhilePaused { vm: vm.entry.name }.into());
        }
        merge::require_mergeable(app, &vm.entry, layers).await?;
        let guards = merge::lock_layers(app, &vm.entry, layers, Self::NAME).await?;

        let job = app.jobs.start(Self::NAME, &vm.entry.name);
        let id = vm.entry.id;
        let merged: Vec<String> = layers.iter().map(|layer| shown(&layer.path)).collect();
        let removed: Vec<String> = directories
            .iter()
            .filter_map(|one| one.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        let entry = match merge::run(app, vm.entry, &*guard, Some(&job), Self::NAME, directories, plan).await {
            Ok(entry) => entry,
            Err(error) => {
                if let Err(failed) = Box::pin(keep_layers(app, &id)).await {
                    tracing::warn!(error = %failed, "could not end a removal; the next operation does");
                }
                return Err(error);
            }
        };
        let kept = entry.layers.iter().flat_map(|layers| &layers.tops).map(|path| shown(path)).collect();
        let (id, name) = (entry.id.to_string(), entry.name.to_string());
        let done = CheckpointRemoved { id, name, removed, merged, kept };
        let data = json!({ "names": done.removed, "merged": done.merged });
        let event = app.committer().event(kind::CHECKPOINT_REMOVED, &entry, data);
        let changes = ChangeSet::default().and(work_done(&entry));
        Ok(Done::changing(done, entry.id, changes).event(event).holding_all(guards).holding(guard))
    }

    /// Returns the directories of the checkpoints; refuses those that another VM builds on.
    async fn directories(&self, app: &App, entry: &VmEntry) -> Result<Vec<PathBuf>, Error> {
        let place = Place::read(app, &entry.id).await?;
        let mut directories: Vec<PathBuf> = Vec::new();
        if self.all {
            directories.extend(place.listing.checkpoints.iter().map(|found| found.directory.clone()));
            directories.extend(place.listing.unusable.iter().map(|(directory, _)| directory.clone()));
        }
        for name in &self.names {
            let directory = place.directory_of(entry, name)?;
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        let removed = place.listing.checkpoints.iter().filter(|found| directories.contains(&found.directory));
        let removed: Vec<&FoundCheckpoint> = removed.collect();
        if !removed.is_empty() {
            let others = UsedFiles::of_all_but_vm(app, &entry.id).await?;
            for found in removed {
                refuse_used(&others, entry, found).await?;
            }
        }
        Ok(directories)
    }
}

async fn refuse_used(others: &UsedFiles<'_>, entry: &VmEntry, found: &FoundCheckpoint) -> Result<(), Error> {
    let mut uses = Vec::new();
    for disk in &found.manifest.disks {
        uses.extend(others.uses_of(&disk.file).await);
    }
    if uses.is_empty() {
        return Ok(());
    }
    Err(CheckpointError::InUse { vm: entry.name.clone(), name: found.manifest.name.clone(), uses }.into())
}

/// Ends a removal whose layers could not be merged: the VM runs with them as well.
async fn keep_layers(app: &App, id: &VmId) -> Result<(), Error> {
    if let Some(entry) = merge::keep_rest(app, id).await? {
        app.committer().end_work(&entry, Vec::new()).await?;
    }
    Ok(())
}

/// Refuses a VM whose QEMU does not answer.
fn require_state(entry: &VmEntry, status: Status) -> Result<(), CheckpointError> {
    match status {
        Status::Defined | Status::Stopped(_) | Status::Running | Status::Paused | Status::Suspended => Ok(()),
        Status::Starting
        | Status::Busy
        | Status::Stopping
        | Status::RestoreFailed
        | Status::IoError
        | Status::Panicked
        | Status::Unreachable
        | Status::Orphaned => Err(CheckpointError::WrongState { vm: entry.name.clone(), status }),
    }
}
