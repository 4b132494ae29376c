//! `snapshot rm`.

use derive_setters::Setters;
use maqet_domain::event::kind;
use maqet_domain::history::Irreversible;
use serde::{Deserialize, Serialize};

use super::{Requirement, SnapshotDone, done, open};
use crate::app::operations::{Done, Effect, Operation};
use crate::{App, Error, HumanDuration};

/// Remove a snapshot of a drive, or of all drives that have it
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct SnapshotRm {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage`, or `all`
    pub drive: String,
    /// The name of the snapshot
    pub name: String,
    /// Remove it from the running VM
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub live: bool,
    /// Timeout; what is being removed then is removed, and the rest stays [default: none]
    #[serde(default)]
    #[setters(strip_option)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

impl SnapshotRm {
    /// Removes the snapshot `name` of a drive.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>, name: impl Into<String>) -> Self {
        Self { vm: vm.into(), drive: drive.into(), name: name.into(), live: false, timeout: None }
    }
}

impl Operation for SnapshotRm {
    const NAME: &'static str = "snapshot.rm";
    const EFFECT: Effect = Effect::Changes;
    type Output = SnapshotDone;

    fn irreversible(&self) -> Option<Irreversible> {
        Some(Irreversible::SnapshotDeleted)
    }

    async fn run(&self, app: &App) -> Result<Done<SnapshotDone>, Error> {
        if self.live {
            return super::live::rm(app, self).await;
        }
        let images = open(app, (&self.vm, &self.drive), Self::NAME, self.timeout, Requirement::Nothing).await?;
        let mut removed = images.remove(&self.name).await?;
        removed.images.selection.omitted.clear();
        Ok(done(removed, kind::SNAPSHOT_REMOVED, &self.name, None))
    }
}
