//! `checkpoint restore`.

use std::time::Duration;

use derive_setters::Setters;
use maqet_domain::change::ChangeSet;
use maqet_domain::checkpoint::ladder::Rung;
use maqet_domain::checkpoint::{CheckpointMethod, CheckpointName};
use maqet_domain::event::{Event, kind};
use maqet_domain::history::{Expected, Irreversible};
use maqet_domain::port::{FoundCheckpoint, HeldLock};
use maqet_domain::qmp::RunState;
use maqet_domain::revert::Revert;
use maqet_domain::vm::{PendingWork, Vm, VmEntry, VmId};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::commit::work_done;
use crate::app::operations::{Done, Effect, Operation, call_of};
use crate::app::shown;
use crate::checkpoint::create::{Created, Creation, Request, created_event};
use crate::checkpoint::error::CheckpointError;
use crate::checkpoint::place::Place;
use crate::checkpoint::preflight::plan;
use crate::checkpoint::restore::{self, OPERATION};
use crate::checkpoint::resume::{Purpose, Resumed};
use crate::history::require_expected;
use crate::job::Job;
use crate::operation::{StartOptions, check_start, start, stop};
use crate::snapshot::live::LiveVm;
use crate::vm::observe::VmStatus;
use crate::{App, Error, HumanDuration};

/// Have a VM go on from one of its checkpoints
///
/// Memory, devices and disks become what they were. A VM that is running is saved first, as the checkpoint
/// `before-NAME`, unless its present state is to be discarded. Its definition stays: what was changed in it since the
/// checkpoint takes effect at the next start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct CheckpointRestore {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The checkpoint
    pub name: String,
    /// Discard the present state: the memory, and what was written to the disks since their last checkpoint
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub discard_current: bool,
    /// Leave the guest paused
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long))]
    pub paused: bool,
    /// Timeout, after which the VM goes on as it was; once its QEMU is ended, the restore goes on to its end
    /// [default: none]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    #[setters(strip_option)]
    pub timeout: Option<HumanDuration>,
    /// What it has in addition if it reverts a change; `undo` sets it.
    #[cfg_attr(feature = "clap", arg(skip))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[setters(skip)]
    pub revert: Option<Box<Revert>>,
}

impl CheckpointRestore {
    /// Has the VM `vm` go on from its checkpoint `name`.
    pub fn new(vm: impl Into<String>, name: impl Into<String>) -> Self {
        let (vm, name) = (vm.into(), name.into());
        Self { vm, name, discard_current: false, paused: false, timeout: None, revert: None }
    }

    /// Returns the call that takes the VM back to the state before, which itself loses nothing.
    fn back(&self, vm: VmId, saved_as: &CheckpointName) -> Self {
        let expected = Expected { vm: Some(vm), ..Expected::default() };
        let revert = Some(Box::new(Revert::new(expected)));
        Self { paused: self.paused, revert, ..Self::new(vm.to_string(), saved_as.to_string()) }
    }
}

/// A VM that goes on from a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CheckpointRestored {
    /// Its state.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// The checkpoint.
    pub checkpoint: CheckpointName,
    /// The checkpoint that has the state before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_as: Option<CheckpointName>,
    /// The layers that were removed, with all that they had.
    pub removed_layers: Vec<String>,
    /// What QEMU complained about, and what the guest does again that it should not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Operation for CheckpointRestore {
    const NAME: &'static str = OPERATION;
    const EFFECT: Effect = Effect::Changes;
    type Output = CheckpointRestored;

    fn irreversible(&self) -> Option<Irreversible> {
        self.discard_current.then_some(Irreversible::StateNotKept)
    }

    fn revert(&self) -> Option<&Revert> {
        self.revert.as_deref()
    }

    async fn run(&self, app: &App) -> Result<Done<CheckpointRestored>, Error> {
        // Boxed, as it holds a session, which makes it large.
        Box::pin(self.restore(app)).await
    }
}

/// What a restore works with.
#[derive(Clone, Copy)]
struct Target<'a> {
    app: &'a App,
    /// The lock of the VM.
    guard: &'a HeldLock,
    found: &'a FoundCheckpoint,
    /// The VM as it is started from the checkpoint.
    past: &'a Vm,
}

/// A VM whose present state is saved, or may be discarded.
struct Ready {
    entry: VmEntry,
    saved_as: Option<CheckpointName>,
    /// The event that it was saved.
    saved_event: Option<Event>,
    /// Whether it is running, or paused.
    is_live: bool,
    /// Whether its guest ran.
    ran: bool,
}

/// A VM that goes on from the checkpoint, and whose work is pending still.
struct WentBack {
    entry: VmEntry,
    removed_layers: Vec<String>,
    warnings: Vec<String>,
}

impl CheckpointRestore {
    async fn restore(&self, app: &App) -> Result<Done<CheckpointRestored>, Error> {
        let name = CheckpointName::parse(&self.name).map_err(CheckpointError::from)?;
        let (guard, vm) = app.vms().lock(&self.vm, Self::NAME).await?;
        require_expected(app, self.revert(), Some(&vm)).await?;
        let place = Place::read(app, &vm.entry.id).await?;
        let found = place.find(&vm.entry, name.as_str())?;
        let job = app.jobs.start(Self::NAME, &vm.entry.name).within(self.timeout);
        let past = job.run(Box::pin(restore::past_vm(app, &vm, found))).await??;
        job.run(Box::pin(check_start(app, &past, options(found)))).await??;
        let target = Target { app, guard: &*guard, found, past: &past };
        let ready = self.save_present(target, &job, &vm, &place).await?;
        let WentBack { entry, removed_layers, mut warnings } = match Box::pin(self.go_back(target, &ready)).await {
            Ok(went_back) => went_back,
            Err(error) => return Err(give_up(target, ready, error).await),
        };
        drop(job);

        if !found.manifest.has_generation_id {
            warnings.push("the guest draws random numbers that it drew before: it has no generation ID".to_owned());
        }
        let observation = app.observer().observe_locked(&entry).await;
        let data = json!({ "name": name, "saved_as": ready.saved_as });
        let event = app.committer().event(kind::CHECKPOINT_RESTORED, &entry, data);
        let vm = VmStatus::new(&entry, &observation);
        let saved_as = ready.saved_as;
        let restored = CheckpointRestored { vm, checkpoint: name, saved_as, removed_layers, warnings };
        let changes = ChangeSet::default().and(work_done(&entry));
        let back = restored.saved_as.as_ref().and_then(|saved| call_of(&self.back(entry.id, saved)).ok());
        Ok(Done::changing(restored, entry.id, changes).undone_by_call(back).event(event).holding(guard))
    }

    /// Saves the present state, and leaves the guest paused, unless that state is to be discarded. Nothing was changed if
    /// this fails.
    async fn save_present(
        &self,
        Target { app, guard, found, .. }: Target<'_>,
        job: &Job<'_>,
        vm: &Vm,
        place: &Place,
    ) -> Result<Ready, Error> {
        let entry = &vm.entry;
        let mut live = LiveVm::open(app, entry).await?;
        if self.discard_current {
            restore::require_no_snapshots(app, entry, found).await?;
            let ran = match &mut live {
                Some(live) => live.run_state().await? == RunState::Running,
                None => false,
            };
            return Ok(Ready { entry: entry.clone(), saved_as: None, saved_event: None, is_live: live.is_some(), ran });
        }
        let Some(mut live) = live else {
            let status = app.observer().observe_locked(entry).await.status;
            return Err(CheckpointError::PresentNotSaved { vm: entry.name.clone(), status }.into());
        };
        let machine = app.machine(vm)?;
        let mut plan = plan(app, &mut live, entry, &machine, None).await?;
        let name = &found.manifest.name;
        // The guest does not go on, so that the pause does not matter, and this is faster.
        let reason = format!("the VM goes back to `{name}`");
        plan.rung = Rung { method: CheckpointMethod::StopAndSave, reason, ..plan.rung };
        let ran = plan.runs;
        let description = Some(format!("before the VM went back to `{name}`"));
        let name = name_before(place, name);
        let request = Request { name, description, is_durable: false, is_temporary: false, template: None };
        let (definition, operation, stays_paused) = (vm.definition.clone(), Self::NAME, true);
        let creation = Creation { app, job, guard, operation, request, plan, definition, stays_paused };
        let Created { entry, manifest, .. } = Box::pin(creation.run(live, entry)).await?;
        let saved_event = Some(created_event(app, &entry, &manifest));
        Ok(Ready { entry, saved_as: Some(manifest.name), saved_event, is_live: true, ran })
    }

    /// Ends QEMU, and starts another one that goes on from the checkpoint.
    async fn go_back(&self, target: Target<'_>, ready: &Ready) -> Result<WentBack, Error> {
        let Target { app, guard, found, past } = target;
        let mut work = restore::plan_work(app, &ready.entry, found, (ready.ran, !self.paused)).await?;
        let pending = PendingWork::CheckpointRestore(Box::new(work.clone()));
        let mut more = ChangeSet { changes: restore::records(app, &ready.entry, &work), ..ChangeSet::default() };
        more.events.extend(ready.saved_event.clone());
        let begun = app.committer().begin_last_step(&ready.entry, Self::NAME, pending, more).await?;
        app.faults.reach(FaultPoint::Marked(Self::NAME));
        restore::prepare(app, found, &work, guard).await?;
        app.faults.reach(FaultPoint::CheckpointRestorePrepared);
        if ready.is_live {
            restore::pause(app, &begun).await?;
            stop(app, &begun, Self::NAME, Some(HumanDuration::new(Duration::ZERO)), false).await?;
        }
        app.faults.reach(FaultPoint::CheckpointRestoreEnded);
        restore::replace_variables(app, &work).await?;
        app.faults.reach(FaultPoint::CheckpointRestoreReplaced);
        let entry = VmEntry { layers: work.layers.clone(), ..app.vms().reread(past).await?.entry };
        let vm = Vm { entry, ..past.clone() };
        let started = Box::pin(start(app, &vm, options(found))).await?.value;
        let entry = app.vms().reread(past).await?.entry;
        if entry.open_run().is_none_or(|run| run.boot != work.boot) {
            let (name, reason) = (found.manifest.name.clone(), "it has ended".to_owned());
            return Err(CheckpointError::LoadFailed { name, reason }.into());
        }
        let entry = restore::mark_loaded(app, &entry, &mut work).await?;
        app.faults.reach(FaultPoint::CheckpointRestoreRecorded);
        restore::finish(app, &entry, &work).await?;
        let removed_layers = work.dropped.iter().map(|layer| shown(&layer.path)).collect();
        Ok(WentBack { entry, removed_layers, warnings: started.warnings })
    }
}

/// Returns how the VM is started: its guest runs only once that is recorded.
fn options(found: &FoundCheckpoint) -> StartOptions<'_> {
    let resumed = Some(Resumed { checkpoint: found, purpose: Purpose::Restore, disconnected: &[] });
    StartOptions { resumed, paused: true, ..StartOptions::default() }
}

/// Leaves nothing of a restore that failed, as far as that is possible, and returns the error.
async fn give_up(Target { app, guard, found, .. }: Target<'_>, ready: Ready, error: Error) -> Error {
    let Ready { entry, saved_as, is_live, .. } = ready;
    match Box::pin(restore::give_up(app, &entry, guard)).await {
        Ok(now) if is_live && now.open_run().is_none() => {
            let (vm, name) = (entry.name, found.manifest.name.clone());
            CheckpointError::RestoreFailed { vm, name, saved_as, source: Box::new(error) }.into()
        }
        Ok(_) => error,
        Err(failed) => {
            tracing::warn!(vm = %entry.name, error = %failed, "could not undo a restore; the next operation does");
            error
        }
    }
}

/// Returns the name of the checkpoint that has the state before a restore of `name`: one that is free.
fn name_before(place: &Place, name: &CheckpointName) -> CheckpointName {
    let mut number = 1_u32;
    loop {
        let ending = if number == 1 { String::new() } else { format!("-{number}") };
        let mut stem = format!("before-{name}");
        while stem.len() + ending.len() > CheckpointName::MAX_LEN {
            stem.pop();
        }
        match CheckpointName::parse(&format!("{stem}{ending}")) {
            Ok(found) if !place.has(found.as_str()) => return found,
            // One that is cut may end as that of an unfinished checkpoint does.
            _ => number += 1,
        }
    }
}
