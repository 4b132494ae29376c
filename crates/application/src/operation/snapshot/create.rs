//! `snapshot create`.

use derive_setters::Setters;
use maqet_domain::event::kind;
use maqet_domain::history::Irreversible;
use maqet_domain::revert::Revert;
use maqet_domain::snapshot::SnapshotName;
use serde::{Deserialize, Serialize};

use super::{Requirement, SnapshotDone, SnapshotRm, again, done, open, recorded_tags};
use crate::app::operations::{Done, Effect, Operation};
use crate::guest::error::ExecError;
use crate::guest::quiesce::QuiesceError;
use crate::snapshot::offline::Creation;
use crate::{App, Error, HumanDuration};

/// Create a snapshot of a drive, or of all drives
///
/// `all` is a set: all writable drives that support snapshots, and the UEFI variables. If one of
/// them fails, none is created. Drives of other types are left out, and named.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct SnapshotCreate {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage`, or `all`
    pub drive: String,
    /// The name of the snapshot
    pub name: String,
    /// Replace a snapshot of this name, once the new one is complete
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub overwrite: bool,
    /// A description, which `snapshot ls` shows
    #[serde(default)]
    #[setters(strip_option)]
    #[cfg_attr(feature = "clap", arg(long, short, value_name = "TEXT"))]
    pub description: Option<String>,
    /// Create it of the running VM: with `all`, of its memory, too, with which it can be loaded again
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub live: bool,
    /// Freeze the file systems of the guest for the moment of the snapshot; with `--live`, of one drive
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, requires = "live"))]
    pub quiesce: bool,
    /// Timeout, after which the snapshot is undone [default: none]
    #[serde(default)]
    #[setters(strip_option)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
    /// What it has in addition if it reverts a change; `undo` sets it.
    #[cfg_attr(feature = "clap", arg(skip))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(skip)]
    pub revert: Option<Box<Revert>>,
}

impl SnapshotCreate {
    /// Creates the snapshot `name` of a drive.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>, name: impl Into<String>) -> Self {
        let (vm, drive, name) = (vm.into(), drive.into(), name.into());
        Self {
            vm,
            drive,
            name,
            overwrite: false,
            description: None,
            live: false,
            quiesce: false,
            timeout: None,
            revert: None,
        }
    }
}

impl Operation for SnapshotCreate {
    const NAME: &'static str = "snapshot.create";
    const EFFECT: Effect = Effect::Changes;
    type Output = SnapshotDone;

    fn irreversible(&self) -> Option<Irreversible> {
        self.overwrite.then_some(Irreversible::SnapshotReplaced)
    }

    fn revert(&self) -> Option<&Revert> {
        self.revert.as_deref()
    }

    async fn run(&self, app: &App) -> Result<Done<SnapshotDone>, Error> {
        if self.live {
            return super::live::create(app, self).await;
        }
        if self.quiesce {
            return Err(ExecError::from(QuiesceError::Unsupported).into());
        }
        let name = SnapshotName::parse(&self.name)?;
        let wanted = (Requirement::Ready, self.revert.as_deref());
        let images = open(app, (&self.vm, &self.drive), Self::NAME, self.timeout, wanted).await?;
        let again = again(&images.entry, |revert| Self { revert, ..self.clone() });
        let description = self.description.as_deref().filter(|text| !text.is_empty());
        let created = images.create(&Creation { name: &name, overwrite: self.overwrite, description }).await?;
        if created.replaced {
            return Ok(
                done(created, kind::SNAPSHOT_CREATED, &self.name, None).not_undone(Irreversible::SnapshotReplaced)
            );
        }
        let id = created.images.entry.id;
        let tags = recorded_tags(&created.images, &created.changes.changes);
        let inverse = SnapshotRm::reverting(id, (&self.drive, &self.name), tags, again);
        Ok(done(created, kind::SNAPSHOT_CREATED, &self.name, None).undone_by(&inverse))
    }
}
