//! `snapshot load`.

use derive_setters::Setters;
use maqet_domain::event::kind;
use maqet_domain::history::Expected;
use maqet_domain::history::Irreversible;
use maqet_domain::revert::Revert;
use maqet_domain::snapshot::tag::BEFORE_LOAD;
use maqet_domain::vm::BootNumber;
use serde::{Deserialize, Serialize};

use super::{Requirement, SnapshotDone, again, done, open};
use crate::app::executor::{EntryParts, history_entry};
use crate::app::operations::{Done, Effect, Operation};
use crate::{App, Error, HumanDuration};

/// Restore a drive, or all drives, to a snapshot
///
/// The state before stays as the snapshot `before-load`, until the next load: load that to take this
/// load back. With `all`, all drives are restored, or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Setters)]
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
    /// What it has in addition if it reverts a change; `undo` sets it.
    #[cfg_attr(feature = "clap", arg(skip))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(skip)]
    pub revert: Option<Box<Revert>>,
}

impl SnapshotLoad {
    /// Loads the snapshot `name` of a drive.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>, name: impl Into<String>) -> Self {
        let (vm, drive, name) = (vm.into(), drive.into(), name.into());
        Self { vm, drive, name, no_safety: false, live: false, start: false, timeout: None, revert: None }
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

    fn revert(&self) -> Option<&Revert> {
        self.revert.as_deref()
    }

    async fn run(&self, app: &App) -> Result<Done<SnapshotDone>, Error> {
        if self.start {
            return super::live::start_from(app, self).await;
        }
        if self.live {
            return super::live::load(app, self).await;
        }
        let back = self.revert.as_deref().map(|revert| &revert.expected.snapshots).filter(|tags| !tags.is_empty());
        // A load that keeps nothing gives space back.
        let keeps = !self.no_safety && back.is_none();
        let requirement = if keeps { Requirement::Space } else { Requirement::Nothing };
        let wanted = (requirement, self.revert.as_deref());
        let images = open(app, (&self.vm, &self.drive), Self::NAME, self.timeout, wanted).await?;
        if let Some(back) = back {
            let again = self.revert.as_ref().and_then(|revert| revert.again.as_deref().cloned());
            let (inverse, entry) = (again, &images.entry);
            let about = EntryParts { inverse, ..EntryParts::about(entry.id, Some(entry.name.clone())) };
            let history = history_entry(app, self, about)?;
            let back: Vec<_> = back.iter().map(|expected| expected.tag.clone()).collect();
            let loaded = images.take_back_load(&back, history).await?;
            return Ok(done(loaded, kind::SNAPSHOT_LOADED, &self.name, None).with_recorded_history());
        }
        let again = again(&images.entry, |revert| Self { revert, ..self.clone() });
        let loaded = images.load(&self.name, keeps).await?;
        let inverse = keeps.then(|| {
            let entry = &loaded.images.entry;
            let mut expected = Expected { vm: Some(entry.id), stopped: true, ..Expected::default() };
            expected.boot = Some(entry.run.as_ref().map_or(BootNumber(0), |run| run.boot));
            expected.snapshots.clone_from(&loaded.safety);
            let revert = Revert { again, ..Revert::new(expected) };
            Self { revert: Some(Box::new(revert)), ..Self::new(entry.id.to_string(), &self.drive, BEFORE_LOAD) }
        });
        let done = done(loaded, kind::SNAPSHOT_LOADED, &self.name, keeps.then_some(BEFORE_LOAD));
        Ok(match inverse {
            Some(inverse) => done.undone_by(&inverse),
            None => done,
        })
    }
}
