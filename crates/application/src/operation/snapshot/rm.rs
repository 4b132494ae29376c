//! `snapshot rm`.

use derive_setters::Setters;
use maqet_domain::event::kind;
use maqet_domain::history::Irreversible;
use maqet_domain::history::{Call, Expected, ExpectedSnapshot};
use maqet_domain::revert::Revert;
use maqet_domain::vm::VmId;
use serde::{Deserialize, Serialize};

use super::{Requirement, SnapshotDone, done, open};
use crate::app::operations::{Done, Effect, Operation};
use crate::{App, Error, HumanDuration};

/// Remove a snapshot of a drive, or of all drives that have it
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Setters)]
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
    /// What it has in addition if it reverts a change; `undo` sets it.
    #[cfg_attr(feature = "clap", arg(skip))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(skip)]
    pub revert: Option<Box<Revert>>,
}

impl SnapshotRm {
    /// Removes the snapshot `name` of a drive.
    pub fn new(vm: impl Into<String>, drive: impl Into<String>, name: impl Into<String>) -> Self {
        Self { vm: vm.into(), drive: drive.into(), name: name.into(), live: false, timeout: None, revert: None }
    }

    /// Removes the snapshots `created` again that another change created under `name`.
    pub(super) fn reverting(
        vm: VmId,
        (drive, name): (&str, &str),
        created: Vec<ExpectedSnapshot>,
        again: Option<Box<Call>>,
    ) -> Self {
        let expected = Expected { vm: Some(vm), ..Expected::default() };
        let revert = Revert { again, created, ..Revert::new(expected) };
        Self { revert: Some(Box::new(revert)), ..Self::new(vm.to_string(), drive, name) }
    }

    /// Returns whether the VM is running whose snapshot another change created.
    async fn is_live(&self, app: &App) -> Result<bool, Error> {
        if self.live || self.revert.is_none() {
            return Ok(self.live);
        }
        let vm = app.vms().find(&self.vm).await?;
        Ok(app.observer().observe_process(&vm.entry).await.status.is_live())
    }
}

impl SnapshotRm {
    /// Returns the call that creates the snapshot again.
    pub(super) fn again(&self) -> Option<Call> {
        self.revert.as_ref()?.again.as_deref().cloned()
    }
}

impl Operation for SnapshotRm {
    const NAME: &'static str = "snapshot.rm";
    const EFFECT: Effect = Effect::Changes;
    type Output = SnapshotDone;

    fn irreversible(&self) -> Option<Irreversible> {
        Some(Irreversible::SnapshotDeleted)
    }

    fn revert(&self) -> Option<&Revert> {
        self.revert.as_deref()
    }

    async fn run(&self, app: &App) -> Result<Done<SnapshotDone>, Error> {
        if self.is_live(app).await? {
            return super::live::rm(app, self).await;
        }
        let wanted = (Requirement::Nothing, self.revert.as_deref());
        let images = open(app, (&self.vm, &self.drive), Self::NAME, self.timeout, wanted).await?;
        let only = self.revert.as_deref().map(|revert| revert.created.as_slice());
        let mut removed = match only {
            Some(only) => images.remove_created(only).await?,
            None => images.remove(&self.name).await?,
        };
        removed.images.selection.omitted.clear();
        let done = done(removed, kind::SNAPSHOT_REMOVED, &self.name, None);
        Ok(done.undone_by_call(self.again()))
    }
}
