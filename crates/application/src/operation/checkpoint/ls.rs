//! `checkpoint ls`.

use std::path::{Path, PathBuf};

use derive_setters::Setters;
use maqet_domain::Timestamp;
use maqet_domain::checkpoint::{CheckpointManifest, CheckpointProblem};
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::checkpoint::place::Place;
use crate::{App, Error};

/// List the checkpoints of a VM, or of all VMs, oldest first
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct CheckpointLs {
    /// The VM: a name, an ID, or a unique prefix of an ID [default: all VMs]
    #[setters(strip_option)]
    pub vm: Option<String>,
}

/// Checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CheckpointList {
    /// Those that can be used: by the name of the VM, the oldest first.
    pub checkpoints: Vec<CheckpointSummary>,
    /// Directories that are named as checkpoints and cannot be used.
    pub unusable: Vec<UnusableCheckpoint>,
}

/// A checkpoint in a list.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CheckpointSummary {
    /// The VM's name when it was taken.
    pub vm: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: Option<String>,
    /// The moment of which it is.
    pub taken_at: Timestamp,
    /// How it was taken: `background-snapshot` or `stop-and-save`.
    pub method: &'static str,
    /// How long the guest was paused, in milliseconds.
    pub pause_ms: u64,
    /// The memory of the guest, in bytes.
    pub memory_bytes: u64,
    /// The space that memory and devices take, in bytes.
    pub saved_bytes: u64,
    /// Its directory.
    pub directory: String,
    /// Whether it was taken for forks, and goes with the last of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub temporary: bool,
}

impl CheckpointSummary {
    pub(crate) fn new(directory: &Path, manifest: &CheckpointManifest) -> Self {
        Self {
            vm: manifest.vm.name.to_string(),
            name: manifest.name.to_string(),
            description: manifest.description.clone(),
            taken_at: manifest.taken_at,
            method: manifest.method.into(),
            pause_ms: manifest.pause_ms,
            memory_bytes: manifest.ram.bytes,
            saved_bytes: manifest.ram.used_bytes.saturating_add(manifest.state.bytes),
            directory: shown(directory),
            temporary: manifest.is_temporary,
        }
    }
}

/// A directory that is named as a checkpoint and cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UnusableCheckpoint {
    /// The VM's name.
    pub vm: String,
    /// The directory.
    pub directory: String,
    /// Why.
    pub problem: String,
}

impl Operation for CheckpointLs {
    const NAME: &'static str = "checkpoint.ls";
    const EFFECT: Effect = Effect::Reads;
    type Output = CheckpointList;

    async fn run(&self, app: &App) -> Result<Done<CheckpointList>, Error> {
        let entries = match &self.vm {
            Some(vm) => vec![app.vms().find(vm).await?.entry],
            None => app.ports.store.list().await?,
        };
        let mut list = CheckpointList { checkpoints: Vec::new(), unusable: Vec::new() };
        for entry in entries {
            let place = Place::read(app, &entry.id).await?;
            let found = place.listing.checkpoints.iter();
            list.checkpoints.extend(found.map(|one| CheckpointSummary::new(&one.directory, &one.manifest)));
            let unusable = |(directory, problem): &(PathBuf, CheckpointProblem)| UnusableCheckpoint {
                vm: entry.name.to_string(),
                directory: shown(directory),
                problem: problem.to_string(),
            };
            list.unusable.extend(place.listing.unusable.iter().map(unusable));
        }
        Ok(Done::reading(list))
    }
}
