//! `checkpoint check`.

use derive_setters::Setters;
use maqet_domain::error::Explain;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::preflight::plan;
use crate::snapshot::live::LiveVm;
use crate::{App, Error};

/// Check whether a checkpoint of a running VM can be taken, and how
///
/// Nothing is changed. Exit code 1 if it cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct CheckpointCheck {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
}

impl CheckpointCheck {
    /// Checks the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into() }
    }
}

/// The result of a check.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckpointReadiness {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// Whether a checkpoint can be taken.
    pub ready: bool,
    /// How: `background-snapshot` or `stop-and-save`.
    pub method: Option<&'static str>,
    /// Why so.
    pub reason: Option<String>,
    /// How long the guest is paused, about, in milliseconds.
    pub pause_ms: Option<u64>,
    /// How much memory is written, at most, in bytes.
    pub memory_bytes: Option<u64>,
    /// The drives.
    pub drives: Vec<String>,
    /// What is in the way.
    pub obstacles: Vec<CheckpointObstacle>,
}

/// What is in the way of a checkpoint.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckpointObstacle {
    /// The drive, if it is one.
    pub drive: Option<String>,
    /// What the matter is.
    pub problem: String,
    /// What to change.
    pub hints: Vec<String>,
}

impl Operation for CheckpointCheck {
    const NAME: &'static str = "checkpoint.check";
    const EFFECT: Effect = Effect::Acts;
    type Output = CheckpointReadiness;

    async fn run(&self, app: &App) -> Result<Done<CheckpointReadiness>, Error> {
        let (guard, vm) = app.vms().lock(&self.vm, Self::NAME).await?;
        let entry = &vm.entry;
        let machine = app.machine(&vm)?;
        let checked = async {
            let Some(mut live) = LiveVm::open(app, entry).await? else {
                let status = app.observer().observe_locked(entry).await.status;
                return Err(CheckpointError::WrongState { vm: entry.name.clone(), status }.into());
            };
            plan(app, &mut live, entry, &machine, None).await
        };
        let mut readiness = CheckpointReadiness {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            ready: false,
            method: None,
            reason: None,
            pause_ms: None,
            memory_bytes: None,
            drives: Vec::new(),
            obstacles: Vec::new(),
        };
        match Box::pin(checked).await {
            Ok(plan) => {
                readiness.ready = true;
                readiness.method = Some(plan.rung.method.into());
                readiness.reason = Some(plan.rung.reason);
                readiness.pause_ms = u64::try_from(plan.rung.estimate.as_millis()).ok();
                readiness.memory_bytes = Some(plan.used_bytes);
                readiness.drives = plan.disks.iter().map(|disk| disk.spec.name.to_string()).collect();
            }
            Err(Error::Checkpoint(CheckpointError::Obstacles { obstacles, .. })) => {
                readiness.obstacles = obstacles
                    .into_iter()
                    .map(|one| CheckpointObstacle { drive: one.drive, problem: one.problem, hints: vec![one.hint] })
                    .collect();
            }
            Err(Error::Checkpoint(error)) => {
                let hints = error.explain().hints;
                readiness.obstacles.push(CheckpointObstacle { drive: None, problem: error.to_string(), hints });
            }
            Err(error) => return Err(error),
        }
        Ok(Done::reading(readiness).holding(guard))
    }
}
