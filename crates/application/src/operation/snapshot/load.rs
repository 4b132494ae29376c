//! `snapshot load`.

use derive_setters::Setters;
use maqet_domain::event::kind;
use maqet_domain::history::Irreversible;
use maqet_domain::snapshot::tag::BEFORE_LOAD;
use serde::{Deserialize, Serialize};

use super::{Requirement, SnapshotDone, done, open};
use crate::app::operations::{Done, Effect, Operation};
use crate::{App, Error, HumanDuration};

/// Restore a drive, or all drives, to a snapshot
///
/// The state before stays as the snapshot `before-load`, until the next load: load that to take this
/// load back. With `all`, all drives are restored, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct SnapshotLoad {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The drive, by its name under `storage`, or `all`
    pub drive: String,
    /// The name of the snapshot
    pub name: String,
    /// Do not keep the state before as the snapshot `before-load`
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub no_safety: bool,
    /// Load it, with its memory, into the running VM (only `all`)
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, conflicts_with = "start"))]
    pub live: bool,
    /// Start the stopped VM from it: the guest goes on as it was saved, with its memory (only `all`)
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub start: bool,
    /// Timeout, after which the disks are as they were; once memory is being loaded, that goes on to its
    /// end [default: none]
    #[serde(default)]
    #[setters(strip_option)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

impl SnapshotLoad {
    /// Loads the snapshot `name` of a drive.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>, name: impl Into<String>) -> Self {
        let (vm, drive, name) = (vm.into(), drive.into(), name.into());
        Self { vm, drive, name, no_safety: false, live: false, start: false, timeout: None }
    }
}

impl Operation for SnapshotLoad {
    const NAME: &'static str = "snapshot.load";
    const EFFECT: Effect = Effect::Changes;
    type Output = SnapshotDone;

    fn irreversible(&self) -> Option<Irreversible> {
        match self {
            Self { no_safety: true, .. } => Some(Irreversible::StateNotKept),
            Self { live: true, .. } | Self { start: true, .. } => Some(Irreversible::MemoryReplaced),
            _ => None,
        }
    }

    async fn run(&self, app: &App) -> Result<Done<SnapshotDone>, Error> {
        if self.start {
            return super::live::start_from(app, self).await;
        }
        if self.live {
            return super::live::load(app, self).await;
        }
        // A load that keeps nothing gives space back.
        let requirement = if self.no_safety { Requirement::Nothing } else { Requirement::Space };
        let images = open(app, (&self.vm, &self.drive), Self::NAME, self.timeout, requirement).await?;
        let inverse = Self::new(images.entry.id.to_string(), &self.drive, BEFORE_LOAD);
        let loaded = images.load(&self.name, !self.no_safety).await?;
        let safety = (!self.no_safety).then_some(BEFORE_LOAD);
        let done = done(loaded, kind::SNAPSHOT_LOADED, &self.name, safety);
        Ok(if self.no_safety { done } else { done.undone_by(&inverse) })
    }
}
