//! `snapshot rm`.

use maqet_domain::event::kind;
use serde::{Deserialize, Serialize};

use super::{SnapshotDone, done, open};
use crate::app::operations::{Done, Effect, Operation};
use crate::{App, Error};

/// Remove a snapshot of a drive, or of all drives that have it
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SnapshotRm {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage`, or `all`
    pub drive: String,
    /// The name of the snapshot
    pub name: String,
}

impl SnapshotRm {
    /// Removes the snapshot `name` of a drive.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>, name: impl Into<String>) -> Self {
        Self { vm: vm.into(), drive: drive.into(), name: name.into() }
    }
}

impl Operation for SnapshotRm {
    const NAME: &'static str = "snapshot.rm";
    const EFFECT: Effect = Effect::Changes;
    type Output = SnapshotDone;

    async fn run(&self, app: &App) -> Result<Done<SnapshotDone>, Error> {
        let images = open(app, (&self.vm, &self.drive), Self::NAME, None, false).await?;
        let mut removed = images.remove(&self.name).await?;
        removed.images.selection.omitted.clear();
        Ok(done(removed, kind::SNAPSHOT_REMOVED, &self.name, None))
    }
}
