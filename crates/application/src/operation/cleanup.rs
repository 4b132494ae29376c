//! `cleanup`: removes what nobody needs any more, and takes orphans back or ends them.

mod back_ends;

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::Node;
use maqet_domain::event::kind;
use maqet_domain::network::Forward;
use maqet_domain::port::{LockName, Machine, Trace, TraceKind};
use maqet_domain::vm::{Phase, Revision, Run, VmEntry, VmId, VmName};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::{run_change, shown};
use crate::call::{Done, Effect, Operation};
use crate::health::{Leftover, in_full, survey, what_of, what_of_orphan};
use crate::stray::machine_run;
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
                items.push(self.orphan(app, machine, &seen.entries).await);
            }
        }
        // Anew: who was adopted owns files now, and who was ended owns none any more.
        let rest = survey(app).await?;
        for entry in &rest.entries {
            items.extend(self.run_of(app, entry).await);
            items.extend(back_ends::of_vm(app, entry, self.dry_run).await);
        }
        for leftover in rest.leftovers {
            if let Leftover::Files(trace) = leftover {
                items.push(self.files(app, &trace).await);
            }
        }
        Ok(Done::reading(Cleaned { dry_run: self.dry_run, items }))
    }
}

impl Cleanup {
    async fn orphan(&self, app: &App, machine: &Machine, entries: &[VmEntry]) -> CleanedItem {
        let subject = machine.name.clone().unwrap_or_else(|| machine.short.clone());
        let what = what_of_orphan(machine, entries);
        let item = CleanedItem { kind: "orphan", subject, what, outcome: Outcome::Left, why: None };
        let (wanted, done) = match (self.adopt_orphans, self.end_orphans) {
            (true, _) => (Outcome::Adopted, if self.dry_run { Ok(()) } else { adopt(app, machine).await }),
            (false, true) => (Outcome::Ended, if self.dry_run { Ok(()) } else { end(app, machine).await }),
            (false, false) => return item,
        };
        item.come_to(wanted, done.map_err(|error| in_full(&error)))
    }

    /// Writes down the end of a VM's run, if its process is gone and nobody did.
    async fn run_of(&self, app: &App, entry: &VmEntry) -> Option<CleanedItem> {
        let run = entry.run.as_ref().filter(|run| !matches!(run.phase, Phase::Ended(_)))?;
        let is_held = app.ports.locks.holder(&LockName::Vm(entry.id)).await.is_some();
        if is_held || app.live_process(run).await.is_some() {
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

    async fn files(&self, app: &App, trace: &Trace) -> CleanedItem {
        let kind = match trace.kind {
            TraceKind::Sockets { .. } => "sockets",
            TraceKind::Records { .. } => "records",
            TraceKind::Lock { .. } => "lock",
            TraceKind::Temporary => "temporary",
        };
        let (subject, what) = (shown(&trace.path), what_of(trace).to_owned());
        let item = CleanedItem { kind, subject, what, outcome: Outcome::Left, why: None };
        let done = if self.dry_run { Ok(()) } else { app.upkeep().leftovers.remove(trace).await };
        item.come_to(Outcome::Removed, done.map_err(|error| in_full(&error)))
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

/// Writes a machine down as the run of its VM, which is defined again if it is gone.
async fn adopt(app: &App, machine: &Machine) -> Result<(), Error> {
    let no_copy = || Error::OrphanUnknown { pid: machine.process.pid };
    let id = machine.id.ok_or_else(no_copy)?;
    let mut guard = app.ports.locks.lock(&LockName::Vm(id), Cleanup::NAME, app.timeouts().lock).await?;
    let mut run = machine_run(machine);
    let data = json!({ "adopted": true, "boot": run.boot });
    if let Some(vm) = app.ports.store.by_id(&id).await? {
        run.forwards = ports_of(app, &run, &vm.definition).await;
        let event = app.event(kind::VM_STARTED, &vm.entry, data);
        let mut changes = ChangeSet::default().and(run_change(&vm.entry, Some(run)));
        changes.events.push(event);
        app.commit(changes).await?;
        return Ok(());
    }
    let Some(mut kept) = app.upkeep().copies.of_vm(&id).await else {
        guard.retire();
        return Err(no_copy());
    };
    run.forwards = ports_of(app, &run, &kept.vm.definition).await;
    kept.vm.entry = VmEntry { run: Some(run), revision: Revision::FIRST, ..kept.vm.entry };
    let event = app.event(kind::VM_DEFINED, &kept.vm.entry, data);
    let mut changes = ChangeSet::default().and(Change::VmAdded(Box::new(kept.vm)));
    for record in kept.storage {
        changes = changes.and(Change::StorageAdded(record));
    }
    changes.events.push(event);
    app.commit(changes).await?;
    Ok(())
}

/// Returns the ports that lead to the guest of a machine, as far as its definition is understood.
async fn ports_of(app: &App, run: &Run, definition: &Node) -> Vec<Forward> {
    match app.machine_defined_by(definition.clone()) {
        Ok(machine) => super::start::forwards(app, run, &machine).await,
        Err(_) => Vec::new(),
    }
}

/// Ends a machine as `stop` does, and removes its sockets.
async fn end(app: &App, machine: &Machine) -> Result<(), Error> {
    let entry = stand_in(app, machine)?;
    let run = machine_run(machine);
    let status = app.look_alone(&entry).await.status;
    app.climb_down(&entry.name, &run, &machine.process, status, app.timeouts().power_down).await?;
    app.ports.hypervisor.clear(&machine.places).await;
    Ok(())
}

/// Returns an entry by which a machine can be looked at; it is never stored.
fn stand_in(app: &App, machine: &Machine) -> Result<VmEntry, Error> {
    let named = machine.name.as_deref().and_then(|name| VmName::parse(name).ok());
    let name = named.map_or_else(|| VmName::parse(&format!("vm-{}", machine.short)), Ok)?;
    let id: VmId = machine.id.unwrap_or_else(|| app.ports.ids.vm_id());
    let run: Option<Run> = Some(machine_run(machine));
    Ok(VmEntry { id, name, revision: Revision::FIRST, created_at: machine.started_at, run })
}
