//! `snapshot check`.

use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::snapshot::check::{ObstacleEffect, SnapshotObstacle, obstacles};
use crate::snapshot::selection::{ALL, SnapshotImages};
use crate::{App, Error};

/// Check what blocks a snapshot of all drives, or makes it incomplete
///
/// Drives of types without snapshots, shares of the host, images that are damaged, missing or in use,
/// and too little space are named, each with what to change. If the VM is running, devices that keep
/// QEMU from saving its memory are named, too. The exit code is 1 if something blocks a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotCheck {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
}

impl SnapshotCheck {
    /// Checks the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into() }
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SnapshotReadiness {
    /// The VM's ID.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// Whether nothing blocks a snapshot.
    pub ready: bool,
    /// The drives that a snapshot of all includes.
    pub drives: Vec<String>,
    /// What blocks it, or makes it incomplete.
    pub obstacles: Vec<SnapshotObstacle>,
}

impl Operation for SnapshotCheck {
    const NAME: &'static str = "snapshot.check";
    const EFFECT: Effect = Effect::Reads;
    type Output = SnapshotReadiness;

    async fn run(&self, app: &App) -> Result<Done<SnapshotReadiness>, Error> {
        let vm = app.vms().find(&self.vm).await?;
        let machine = app.machine(&vm)?;
        let selection = SnapshotImages::new(app, &vm.entry, &machine, ALL)?;
        let is_running = app.observer().observe_process(&vm.entry).await.process.is_some();
        let obstacles = obstacles(app, &vm.entry, &machine, is_running).await;
        Ok(Done::reading(SnapshotReadiness {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            ready: obstacles.iter().all(|obstacle| obstacle.effect != ObstacleEffect::Blocks),
            drives: selection.drives(),
            obstacles,
        }))
    }
}
