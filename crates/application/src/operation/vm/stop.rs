//! `stop`: stops a VM.

use std::time::Duration;

use futures_util::future::join;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::port::LockError;
use maqet_domain::vm::{Action, Phase, ProcessIdentity, Run, Status, Transition, VmEntry};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, Operation};
use crate::app::{run_change, wrong_state};
use crate::vm::observe::{Observation, VmStatus};
use crate::vm::shutdown::StopMethod;
use crate::{App, Error, HumanDuration};

/// Stops a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
    /// How long the guest may take to power off before QEMU is told to quit.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
    /// Kills QEMU at once.
    #[serde(default)]
    pub force: bool,
}

/// A VM that is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Its state.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// What it took.
    pub how: StopMethod,
}

impl Operation for Stop {
    const NAME: &'static str = "stop";
    const EFFECT: Effect = Effect::Acts;
    type Output = Stopped;

    async fn run(&self, app: &App) -> Result<Done<Stopped>, Error> {
        // Whoever forces does not wait for the one who asks politely.
        let patience = if self.force { Duration::ZERO } else { app.timeouts().lock };
        let (guard, vm) = match app.lock_within(&self.vm, Self::NAME, patience).await {
            Err(Error::Lock(error)) if self.force => return self.kill_unlocked(app, error).await,
            locked => locked?,
        };
        let stopped = stop(app, &vm.entry, self.timeout, self.force).await?;
        Ok(Done::reading(stopped).about(vm.entry.id).holding(guard))
    }
}

/// Stops a VM whose lock the caller holds.
pub(super) async fn stop(
    app: &App,
    entry: &VmEntry,
    timeout: Option<HumanDuration>,
    force: bool,
) -> Result<Stopped, Error> {
    let seen = if force { app.observe_process(entry).await } else { app.observe_locked(entry).await };
    let step = seen.status.on(Action::Stop);
    let step = step.map_err(|refused| wrong_state(entry, refused))?;
    match (step, &entry.run, &seen.process) {
        (Transition::Proceed, Some(run), Some(process)) if force => {
            // A power cut does not wait for a disk, and what is joined first is begun first.
            let (killed, entry) = join(app.kill(&entry.name, process), mark_starting(app, entry, run, process)).await;
            killed?;
            Ok(finish(app, &entry, run, process, StopMethod::Kill).await)
        }
        (Transition::Proceed, Some(run), Some(process)) => climb(app, entry, run, process, seen.status, timeout).await,
        (Transition::Proceed | Transition::NoOp, _, _) => {
            Ok(Stopped { vm: VmStatus::new(entry, &seen), how: StopMethod::Nothing })
        }
    }
}

async fn climb(
    app: &App,
    entry: &VmEntry,
    run: &Run,
    process: &ProcessIdentity,
    status: Status,
    timeout: Option<HumanDuration>,
) -> Result<Stopped, Error> {
    app.ensure_responsive(&entry.name, process)?;
    let entry = mark_starting(app, entry, run, process).await;
    let patience = timeout.map_or(app.timeouts().power_down, HumanDuration::duration);
    let rung = app.shut_down(&entry.name, run, process, status, patience).await?;
    Ok(finish(app, &entry, run, process, rung).await)
}

/// Writes down that the VM is stopping, so that one who is killed meanwhile leaves the truth behind; a full disk stops
/// nobody.
async fn mark_starting(app: &App, entry: &VmEntry, run: &Run, process: &ProcessIdentity) -> VmEntry {
    let stopping = Run { process: Some(process.clone()), ..run.at_phase(Phase::Stopping) };
    let written = app.record_run(entry, Some(stopping)).await;
    app.faults.reach(FaultPoint::Intended(Stop::NAME));
    written.unwrap_or_else(|error| {
        tracing::warn!(%error, "could not write down that the VM is stopping");
        entry.clone()
    })
}

impl Stop {
    /// Kills the machine while another operation holds its lock, which finds it gone and says so, or where nothing can
    /// be locked, as on a file system that is read-only.
    async fn kill_unlocked(&self, app: &App, unlocked: LockError) -> Result<Done<Stopped>, Error> {
        let entry = app.vm(&self.vm).await?.entry;
        let seen = app.observe_process(&entry).await;
        // Whoever holds the lock may be about to start it, so "stopped" would be a lie.
        let process = seen.process.ok_or(unlocked)?;
        app.kill(&entry.name, &process).await?;
        let seen = app.observe_process(&entry).await;
        Ok(Done::reading(Stopped { vm: VmStatus::new(&entry, &seen), how: StopMethod::Kill }).about(entry.id))
    }
}

/// Removes the sockets and writes down how it ended.
///
/// The machine is stopped, whether or not that can be written: reads find it out from the kernel.
async fn finish(app: &App, entry: &VmEntry, run: &Run, process: &ProcessIdentity, rung: StopMethod) -> Stopped {
    app.faults.reach(FaultPoint::StopGone);
    app.ports.hypervisor.clear(&run.paths).await;
    app.faults.reach(FaultPoint::StopCleared);
    let (ending, rung) = app.ending(run, rung).await;
    let ended = Run { process: Some(process.clone()), ..run.at_phase(Phase::Ended(ending)) };

    let mut changes = ChangeSet::default().and(run_change(entry, Some(ended.clone())));
    changes.events.push(app.event(kind::VM_STOPPED, entry, json!({ "reason": ending.reason, "how": rung })));
    app.faults.reach(FaultPoint::BeforeCommit(Stop::NAME));
    if let Err(error) = app.commit(changes).await {
        tracing::warn!(%error, "could not write down that the VM stopped");
    }
    app.faults.reach(FaultPoint::Committed(Stop::NAME));
    let entry = VmEntry { run: Some(ended), ..entry.clone() };
    let seen = Observation::without_process(Status::Stopped(ending));
    Stopped { vm: VmStatus::new(&entry, &seen), how: rung }
}
