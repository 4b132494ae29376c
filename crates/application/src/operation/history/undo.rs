//! `undo` and `redo`.

use derive_setters::Setters;
use maqet_domain::Timestamp;
use maqet_domain::history::{Direction, RecordedHistory};
use serde::{Deserialize, Serialize};

use super::ls::subject;
use super::preview::EarlierReverts;
use crate::app::operations::{Done, Effect, Operation};
use crate::history::error::HistoryError;
use crate::history::reverting::{Reverting, history_vm};
use crate::{App, Error};

/// Undo the last changes of VMs, snapshots and storage
///
/// Undoes what `add`, `apply`, `rm`, `snapshot` and `storage` changed, the newest change first; each undo is a change of
/// its own, which `redo` takes back. A change is not undone if something is no longer as it left it: the VM was changed
/// or started since, a disk is gone, a name is taken. In a database that hosts share, only changes of this user on this
/// host are undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Undo {
    /// How many changes
    #[cfg_attr(feature = "clap", arg(default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..)))]
    pub count: u32,
    /// Only changes of this VM: its name or ID
    #[cfg_attr(feature = "clap", arg(long, value_name = "VM"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[setters(strip_option)]
    pub vm: Option<String>,
    /// The change with this number, whatever was changed later
    #[cfg_attr(feature = "clap", arg(long, value_name = "NUMBER", conflicts_with_all = ["count", "vm"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[setters(strip_option)]
    pub entry: Option<i64>,
    /// Show what would be undone, and what would prevent it
    #[cfg_attr(feature = "clap", arg(long))]
    pub dry_run: bool,
}

impl Default for Undo {
    fn default() -> Self {
        Self { count: 1, vm: None, entry: None, dry_run: false }
    }
}

/// Take back the last undos
///
/// Makes the changes again that were undone, the last undo first. A new change of a VM ends that: what was undone before
/// it stays undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Redo {
    /// How many undos
    #[cfg_attr(feature = "clap", arg(default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..)))]
    pub count: u32,
    /// Only changes of this VM: its name or ID
    #[cfg_attr(feature = "clap", arg(long, value_name = "VM"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[setters(strip_option)]
    pub vm: Option<String>,
    /// Show what would be made again, and what would prevent it
    #[cfg_attr(feature = "clap", arg(long))]
    pub dry_run: bool,
}

impl Default for Redo {
    fn default() -> Self {
        Self { count: 1, vm: None, dry_run: false }
    }
}

/// What was undone, or made again.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Reverted {
    /// `undo` or `redo`.
    pub direction: Direction,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// How many changes were asked for; there may be fewer.
    pub requested: u32,
    /// The changes, in the order in which they were reverted.
    pub changes: Vec<RevertedChange>,
}

/// A change that was undone, or made again.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RevertedChange {
    /// Its number.
    pub sequence: i64,
    /// When it was made.
    pub at: Timestamp,
    /// The operation that made it, as in `snapshot.create`.
    pub operation: String,
    /// What it was about, as far as it is not a secret.
    pub subject: Option<String>,
    /// The operation that reverts it; `None` if nothing does.
    pub by: Option<String>,
    /// The ID of the VM.
    pub id: Option<String>,
    /// The name that the VM had.
    pub name: Option<String>,
    /// Why it would not be reverted, in a dry run.
    pub problem: Option<String>,
}

impl RevertedChange {
    fn new(recorded: &RecordedHistory, problem: Option<&Error>) -> Self {
        let entry = &recorded.entry;
        Self {
            sequence: recorded.sequence,
            at: entry.at,
            operation: entry.call.operation.clone(),
            subject: subject(recorded),
            by: entry.inverse.as_ref().map(|call| call.operation.clone()),
            id: entry.vm.map(|id| id.to_string()),
            name: entry.vm_name.as_ref().map(ToString::to_string),
            problem: problem.map(ToString::to_string),
        }
    }
}

impl Operation for Undo {
    const NAME: &'static str = "undo";
    // The operations that it calls write the changes.
    const EFFECT: Effect = Effect::Reads;
    type Output = Reverted;

    async fn run(&self, app: &App) -> Result<Done<Reverted>, Error> {
        let reverting = Reverting::new(app, Direction::Undo, self.vm.as_deref()).await?;
        let Some(sequence) = self.entry else { return reverting.run(self.count, self.dry_run).await };
        let entry = reverting.entry(sequence).await?;
        reverting.run_on(vec![entry], 1, self.dry_run).await
    }
}

impl Operation for Redo {
    const NAME: &'static str = "redo";
    const EFFECT: Effect = Effect::Reads;
    type Output = Reverted;

    async fn run(&self, app: &App) -> Result<Done<Reverted>, Error> {
        let reverting = Reverting::new(app, Direction::Redo, self.vm.as_deref()).await?;
        reverting.run(self.count, self.dry_run).await
    }
}

impl<'a> Reverting<'a> {
    async fn new(app: &'a App, direction: Direction, vm: Option<&str>) -> Result<Self, Error> {
        let found = match vm {
            Some(vm) => Some(history_vm(app, vm).await?),
            None => None,
        };
        Ok(Self { app, direction, vm: found, vm_name: vm.map(str::to_owned) })
    }

    async fn run(&self, count: u32, dry_run: bool) -> Result<Done<Reverted>, Error> {
        let entries = self.next(usize::try_from(count).unwrap_or(usize::MAX)).await?;
        self.run_on(entries, count, dry_run).await
    }

    /// Reverts changes, each with a commit of its own.
    async fn run_on(&self, entries: Vec<RecordedHistory>, count: u32, dry_run: bool) -> Result<Done<Reverted>, Error> {
        if entries.is_empty() {
            let (direction, vm) = (self.direction, self.vm_name.clone());
            return Err(HistoryError::NothingLeft { direction, vm }.into());
        }
        let mut changes = Vec::with_capacity(entries.len());
        let mut earlier = EarlierReverts::default();
        for recorded in &entries {
            if dry_run {
                let problem = earlier.problem(self, recorded).await?;
                changes.push(RevertedChange::new(recorded, problem.as_ref()));
                continue;
            }
            match self.revert(recorded).await {
                Ok(_) => changes.push(RevertedChange::new(recorded, None)),
                Err(source) if changes.is_empty() => return Err(source),
                Err(source) => {
                    let (direction, done, source) = (self.direction, changes.len(), Box::new(source));
                    return Err(HistoryError::Stopped { direction, done, count, source }.into());
                }
            }
        }
        Ok(Done::reading(Reverted { direction: self.direction, dry_run, requested: count, changes }))
    }
}
