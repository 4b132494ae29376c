//! `cleanup`: removes what nobody needs any more, and takes orphans back or ends them.

mod backends;
mod orphan;

use maqet_domain::port::{LockName, QemuInstance, StaleFile, StaleFileKind};
use maqet_domain::vm::{Phase, VmEntry};
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::maintenance::{Leftover, in_full, survey, what_of, what_of_orphan};
use crate::{App, Error};

/// Remove what nobody needs any more
///
/// Sockets of runs that are over, logs and locks of VMs that are gone, unfinished files of dead
/// processes; and the end of runs that nobody wrote down is written down. Disks and definitions
/// stay. A QEMU that no VM owns is shown, and left alone unless asked otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct Cleanup {
    /// Show what would be done and do nothing
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub dry_run: bool,
    /// End each QEMU that no VM owns: power button, then quit, then signals
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, conflicts_with = "adopt_orphans"))]
    pub end_orphans: bool,
    /// Define the VM of each such QEMU again, from the copy beside its logs
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub adopt_orphans: bool,
}

/// What a cleanup came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cleaned {
    /// Whether nothing was really done.
    pub dry_run: bool,
    /// What was found, and what became of it.
    pub items: Vec<CleanedItem>,
}

/// One thing that nobody needs any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CleanedItem {
    /// What it is: `orphan`, `run`, `back-end`, `sockets`, `records`, `lock` or `temporary`.
    pub kind: &'static str,
    /// A path, or the name of a VM.
    pub subject: String,
    /// The same in words.
    pub what: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was removed.
    Removed,
    /// Its end was written down.
    Settled,
    /// The process was ended.
    Ended,
    /// The VM is defined again.
    Adopted,
    /// Nothing: it was not asked for, or nothing was to be done.
    Left,
    /// It was tried in vain.
    Failed,
}

impl Operation for Cleanup {
    const NAME: &'static str = "cleanup";
    const EFFECT: Effect = Effect::Acts;
    type Output = Cleaned;

    async fn run(&self, app: &App) -> Result<Done<Cleaned>, Error> {
        let mut items = Vec::new();
        let seen = survey(app).await?;
        for leftover in &seen.leftovers {
            if let Leftover::Orphan(machine) = leftover {
                items.extend(self.orphan(app, machine, &seen.entries).await);
            }
        }
        // Anew: who was adopted owns files now, and who was ended owns none any more.
        let rest = survey(app).await?;
        for entry in &rest.entries {
            items.extend(self.run_of(app, entry).await);
            items.extend(backends::of_vm(app, entry, self.dry_run).await);
        }
        for leftover in rest.leftovers {
            if let Leftover::Files(trace) = leftover {
                items.extend(self.files(app, &trace, &rest.entries).await);
            }
        }
        Ok(Done::reading(Cleaned { dry_run: self.dry_run, items }))
    }
}

impl Cleanup {
    /// Takes a machine back or ends it, as asked; there is nothing to tell of one that somebody else took or ended.
    async fn orphan(&self, app: &App, machine: &QemuInstance, entries: &[VmEntry]) -> Option<CleanedItem> {
        let subject = machine.name.clone().unwrap_or_else(|| machine.short.clone());
        let what = what_of_orphan(machine, entries);
        let item = CleanedItem { kind: "orphan", subject, what, outcome: Outcome::Left, why: None };
        let (wanted, done) = match (self.adopt_orphans, self.end_orphans) {
            (false, false) => return Some(item),
            (true, _) if self.dry_run => (Outcome::Adopted, Ok(true)),
            (false, true) if self.dry_run => (Outcome::Ended, Ok(true)),
            (true, _) => (Outcome::Adopted, orphan::adopt(app, machine).await),
            (false, true) => (Outcome::Ended, orphan::end(app, machine, entries).await),
        };
        match done {
            Ok(false) => None,
            Ok(true) => Some(item.come_to(wanted, Ok(()))),
            Err(error) => Some(item.come_to(wanted, Err(in_full(&error)))),
        }
    }

    /// Writes down the end of a VM's run, if its process is gone and nobody did.
    async fn run_of(&self, app: &App, entry: &VmEntry) -> Option<CleanedItem> {
        let run = entry.run.as_ref().filter(|run| !matches!(run.phase, Phase::Ended(_)))?;
        let is_held = app.ports.locks.holder(&LockName::Vm(entry.id)).await.is_some();
        if is_held || app.observer().live_process(run).await.is_some() {
            return None;
        }
        let item = CleanedItem {
            kind: "run",
            subject: entry.name.to_string(),
            what: "a run whose process is gone, and whose end was not written down".to_owned(),
            outcome: Outcome::Left,
            why: None,
        };
        let done = if self.dry_run { Ok(true) } else { app.close_run(entry, Self::NAME).await };
        match done {
            // Somebody else works on it now.
            Ok(false) => None,
            Ok(true) => Some(item.come_to(Outcome::Settled, Ok(()))),
            Err(error) => Some(item.come_to(Outcome::Settled, Err(in_full(&error)))),
        }
    }

    async fn files(&self, app: &App, trace: &StaleFile, entries: &[VmEntry]) -> Option<CleanedItem> {
        let kind = match trace.kind {
            StaleFileKind::Sockets { .. } => "sockets",
            StaleFileKind::Records { .. } => "records",
            StaleFileKind::Lock { .. } => "lock",
            StaleFileKind::Temporary => "temporary",
        };
        let (subject, what) = (shown(&trace.path), what_of(trace).to_owned());
        let item = CleanedItem { kind, subject, what, outcome: Outcome::Left, why: None };
        let done = if self.dry_run { Ok(true) } else { app.remove_leftover(trace, entries).await };
        match done {
            // Somebody else works on its VM, or needs it by now.
            Ok(false) => None,
            Ok(true) => Some(item.come_to(Outcome::Removed, Ok(()))),
            Err(error) => Some(item.come_to(Outcome::Removed, Err(in_full(&error)))),
        }
    }
}

impl CleanedItem {
    fn come_to(self, wanted: Outcome, done: Result<(), String>) -> Self {
        match done {
            Ok(()) => Self { outcome: wanted, ..self },
            Err(why) => Self { outcome: Outcome::Failed, why: Some(why), ..self },
        }
    }
}
