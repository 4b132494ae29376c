//! `cleanup`: removes stale files, reconciles runs, and adopts or ends orphans.

mod backends;
mod orphan;

use derive_setters::Setters;
use maqet_domain::port::{LockName, QemuInstance, StaleFile, StaleFileKind, StoreError};
use maqet_domain::vm::VmEntry;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::log::keeper::LogKeeper;
use crate::maintenance::{
    StaleFileRemoval, StaleItem, Survey, close_run, describe_file, describe_orphan, error_chain, interrupted,
};
use crate::operation::checkpoint::fork::now::remove_unused;
use crate::throw_away::{Lifetime, left_over, remove_abandoned};
use crate::vm::shutdown::StopMethod;
use crate::{App, Error};

/// Remove stale files
///
/// Removes VMs of `maqet run` whose process was killed, ephemeral forks that have stopped, sockets of ended runs, logs and locks of removed VMs, and temporary
/// files of processes that have exited, records the ends of runs, and finishes or undoes interrupted work in the trash.
/// Keeps disks and definitions. Lists orphans: QEMU processes whose VM is not in the database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Cleanup {
    /// Show what would be done without doing it
    #[cfg_attr(feature = "clap", arg(long))]
    pub dry_run: bool,
    /// End orphans: power-down, then quit, then signals
    #[cfg_attr(feature = "clap", arg(long, conflicts_with = "adopt_orphans"))]
    pub end_orphans: bool,
    /// Define the VMs of orphans again, from their saved definitions
    #[cfg_attr(feature = "clap", arg(long))]
    pub adopt_orphans: bool,
}

impl Cleanup {
    /// Removes stale files, and lists orphans. Adopting orphans takes precedence over ending them.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The result of a cleanup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Cleaned {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// The stale objects, each with its outcome.
    pub items: Vec<CleanedItem>,
}

/// One stale object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CleanedItem {
    /// `vm`, `orphan`, `run`, `backend`, `sockets`, `records`, `lock`, `temporary` or `trash`.
    pub kind: &'static str,
    /// A path, or the name of a VM.
    pub subject: String,
    /// A description.
    pub message: String,
    /// The outcome.
    pub outcome: CleanupOutcome,
    /// How the process was ended, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<StopMethod>,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What helps, where something does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The outcome for one stale object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CleanupOutcome {
    /// It was removed.
    Removed,
    /// The end of the run was recorded.
    Reconciled,
    /// The process was ended.
    Ended,
    /// The process is a run of its VM again.
    Adopted,
    /// Nothing was done, as no option asked for it.
    Skipped,
    /// An error prevented it.
    Failed,
}

impl Operation for Cleanup {
    const NAME: &'static str = "cleanup";
    const EFFECT: Effect = Effect::Acts;
    type Output = Cleaned;

    async fn run(&self, app: &App) -> Result<Done<Cleaned>, Error> {
        let mut items = Vec::new();
        for vm in left_over(app).await? {
            let (entry, lifetime) = (&vm.entry, Lifetime::of(&vm));
            let item = CleanedItem::new("vm", entry.name.to_string(), lifetime.left_over());
            items.extend(if self.dry_run {
                Some(item.outcome(CleanupOutcome::Removed))
            } else {
                item.result(CleanupOutcome::Removed, &remove_abandoned(app, &entry.id, Self::NAME).await)
            });
        }
        if !self.dry_run {
            remove_unused(app).await;
        }
        let survey = Survey::new(app).await?;
        for item in &survey.stale {
            if let StaleItem::Orphan(instance) = item {
                items.extend(self.orphan(app, instance, &survey.entries).await);
            }
        }
        // Search again: files of adopted orphans are in use now, files of ended ones are not.
        let survey = Survey::new(app).await?;
        let keeper = LogKeeper::new(app);
        for entry in &survey.entries {
            items.extend(self.reconcile_run(app, entry).await);
            items.extend(backends::remove_unused(app, entry, self.dry_run).await);
            if !self.dry_run {
                keeper.keep_all(&app.reconciler(), &entry.id).await;
            }
        }
        let removal = app.stale_file_removal(&survey.entries);
        for item in &survey.stale {
            if let StaleItem::File(file) = item {
                items.extend(self.remove_file(&removal, file).await);
            }
        }
        items.extend(survey.lost.iter().map(lost_records));
        for found in interrupted(app, Self::NAME, self.dry_run).await? {
            let item = CleanedItem::new("trash", shown(&found.path), found.work.description());
            items.push(item.outcome(CleanupOutcome::Removed));
        }
        Ok(Done::reading(Cleaned { dry_run: self.dry_run, items }))
    }
}

impl Cleanup {
    /// Adopts or ends an orphan, as the options request; returns nothing if it is no longer an orphan.
    async fn orphan(&self, app: &App, instance: &QemuInstance, entries: &[VmEntry]) -> Option<CleanedItem> {
        let subject = instance.name.clone().unwrap_or_else(|| instance.short.clone());
        let item = CleanedItem::new("orphan", subject, describe_orphan(instance, entries));
        match (self.adopt_orphans, self.end_orphans) {
            (false, false) => Some(item),
            (true, _) if self.dry_run => Some(item.outcome(CleanupOutcome::Adopted)),
            (false, true) if self.dry_run => Some(item.outcome(CleanupOutcome::Ended)),
            (true, _) => {
                let adopted = orphan::adopt(app, instance).await;
                let hint = adopted.as_ref().err().and_then(adoption_hint);
                item.result(CleanupOutcome::Adopted, &adopted).map(|item| CleanedItem { hint, ..item })
            }
            (false, true) => {
                let ended = orphan::end(app, instance, entries).await;
                let method = ended.as_ref().ok().copied().flatten();
                let item = item.result(CleanupOutcome::Ended, &ended.map(|method| method.is_some()));
                item.map(|item| CleanedItem { method, ..item })
            }
        }
    }

    /// Records the end of a VM's run if its process is gone.
    async fn reconcile_run(&self, app: &App, entry: &VmEntry) -> Option<CleanedItem> {
        let run = entry.open_run()?;
        let is_locked = app.ports.locks.holder(&LockName::Vm(entry.id)).await.is_some();
        if is_locked || app.observer().live_process(run).await.is_some() {
            return None;
        }
        let message = "QEMU has exited, but the end of the run is not recorded";
        let item = CleanedItem::new("run", entry.name.to_string(), message);
        if self.dry_run {
            return Some(item.outcome(CleanupOutcome::Reconciled));
        }
        item.result(CleanupOutcome::Reconciled, &close_run(app, entry, Self::NAME).await)
    }

    async fn remove_file(&self, removal: &StaleFileRemoval<'_>, file: &StaleFile) -> Option<CleanedItem> {
        let kind = match file.kind {
            StaleFileKind::Sockets { .. } => "sockets",
            StaleFileKind::Records { .. } => "records",
            StaleFileKind::Lock { .. } => "lock",
            StaleFileKind::Temporary => "temporary",
        };
        let item = CleanedItem::new(kind, shown(&file.path), describe_file(file));
        if self.dry_run {
            return Some(item.outcome(CleanupOutcome::Removed));
        }
        item.result(CleanupOutcome::Removed, &removal.remove(file).await)
    }
}

/// Describes records that are kept although the database has no VM for them.
fn lost_records(file: &StaleFile) -> CleanedItem {
    let message = "records and definition of a VM that the database lacks, and does not record as removed";
    let hint = "run `maqet doctor --fix` to add the VM again; `maqet rm` removes it for good";
    CleanedItem { hint: Some(hint.to_owned()), ..CleanedItem::new("records", shown(&file.path), message) }
}

/// Returns what helps if an orphan cannot be adopted.
fn adoption_hint(error: &Error) -> Option<String> {
    match error {
        Error::Store(StoreError::Exists { name }) => Some(format!(
            "remove the VM that has the name now with `maqet rm {name}`, which keeps its disks, and adopt again; or end \
             the process with `maqet cleanup --end-orphans`"
        )),
        Error::OrphanWithoutDefinition { .. } => Some("end it with `maqet cleanup --end-orphans`".to_owned()),
        _ => None,
    }
}

impl CleanedItem {
    fn new(kind: &'static str, subject: String, message: impl Into<String>) -> Self {
        let (message, outcome) = (message.into(), CleanupOutcome::Skipped);
        Self { kind, subject, message, outcome, method: None, reason: None, hint: None }
    }

    fn outcome(self, outcome: CleanupOutcome) -> Self {
        Self { outcome, ..self }
    }

    /// Sets the outcome of an attempt; returns nothing if there was nothing left to do, or another process works
    /// on the VM.
    fn result<E: std::error::Error>(self, success: CleanupOutcome, result: &Result<bool, E>) -> Option<Self> {
        match result {
            Ok(true) => Some(self.outcome(success)),
            Ok(false) => None,
            Err(error) => Some(Self { reason: Some(error_chain(error)), ..self.outcome(CleanupOutcome::Failed) }),
        }
    }
}
