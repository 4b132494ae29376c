//! `stop`: stops a VM.

use std::time::Duration;

use derive_setters::Setters;
use futures_util::future::join;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::port::{LockError, ProcessError};
use maqet_domain::vm::{
    Action, Phase, ProcessIdentity, QemuProcess, Run, RunEnd, Status, StopReason, Transition, VmEntry,
};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::app::commit::run_change;
use crate::app::operations::{Done, Effect, Operation};
use crate::job::Job;
use crate::operation::checkpoint::fork::now::remove_unused;
use crate::throw_away::{Lifetime, remove_abandoned};
use crate::vm::hidden::{HiddenProcess, unidentified};
use crate::vm::observe::{Observation, VmStatus};
use crate::vm::reconcile::stopped_data;
use crate::vm::shutdown::{Shutdown, StopMethod, StopOutcome, StopRequest};
use crate::vm::unresponsive::ensure_responsive;
use crate::{App, Error, HumanDuration};

/// Stops a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Stop {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// How long the guest may take to power off before QEMU gets `quit`.
    pub timeout: Option<HumanDuration>,
    /// Kills QEMU immediately.
    #[serde(default)]
    pub force: bool,
}

impl Stop {
    /// Stops the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), timeout: None, force: false }
    }
}

/// A VM that is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stopped {
    /// Its state.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// How it was stopped.
    pub method: StopMethod,
    /// How often the power button was pressed.
    pub presses: u32,
    /// How long that took, in milliseconds.
    pub waited_ms: u64,
    /// How long the guest had to power off, in milliseconds, if it did not, so that its power was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_cut_after_ms: Option<u64>,
    /// Whether the VM was removed, as an ephemeral fork is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
}

impl Stopped {
    fn new(vm: VmStatus, outcome: &StopOutcome) -> Self {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            vm,
            method: outcome.method,
            presses: outcome.presses,
            waited_ms: milliseconds(outcome.waited),
            power_cut_after_ms: outcome.power_cut.map(milliseconds),
            removed: false,
        }
    }
}

impl Operation for Stop {
    const NAME: &'static str = "stop";
    const EFFECT: Effect = Effect::Acts;
    type Output = Stopped;

    async fn run(&self, app: &App) -> Result<Done<Stopped>, Error> {
        // `--force` must not wait for a graceful stop that holds the lock.
        let timeout = if self.force { Duration::ZERO } else { app.timeouts().lock };
        let (guard, vm) = match app.vms().lock_unrecovered(&self.vm, Self::NAME, timeout).await {
            Err(Error::Lock(error)) if self.force => return self.kill_unlocked(app, error).await,
            locked => locked.map_err(|error| error.offering_force(&self.vm))?,
        };
        let stopped = stop(app, &vm.entry, Self::NAME, self.timeout, self.force).await?;
        if Lifetime::of(&vm) == Lifetime::OfRun {
            drop(guard);
            return Ok(remove_stopped(app, &vm.entry, stopped).await);
        }
        Ok(Done::reading(stopped).about(vm.entry.id).holding(guard))
    }
}

impl Stop {
    /// Kills QEMU while another operation holds the lock, or where nothing can be locked, as on a read-only file system.
    ///
    /// The other operation finds its process gone and reports that.
    async fn kill_unlocked(&self, app: &App, lock_error: LockError) -> Result<Done<Stopped>, Error> {
        let entry = app.vms().find(&self.vm).await?.entry;
        let observation = app.observer().observe_process(&entry).await;
        // Without a process it is not stopped for sure: the holder of the lock may be about to start it.
        let process = match observation.process.ok_or(lock_error)? {
            QemuProcess::Visible(process) => process,
            QemuProcess::Hidden => return Err(Error::ProcessHidden { vm: entry.name, is_forced: true }),
        };
        let began = Instant::now();
        app.shutdown().kill(&entry.name, &process).await?;
        let outcome = StopOutcome::without_guest(StopMethod::Sigkill, began.elapsed());
        // The kill is not recorded, so an observation would report a crash.
        let ending = RunEnd { reason: StopReason::HostSignal, at: Some(app.ports.clock.now()) };
        let observation = Observation::without_process(Status::Stopped(ending));
        let stopped = Stopped::new(VmStatus::new(&entry, &observation), &outcome);
        Ok(Done::reading(stopped).about(entry.id))
    }
}

/// Removes a VM that was to go once it had stopped; if that fails, the next command that looks for such VMs does it.
async fn remove_stopped(app: &App, entry: &VmEntry, stopped: Stopped) -> Done<Stopped> {
    match Box::pin(remove_abandoned(app, &entry.id, Stop::NAME)).await {
        Ok(removed) => {
            remove_unused(app).await;
            Done::reading(Stopped { removed, ..stopped })
        }
        Err(error) => {
            tracing::warn!(vm = %entry.name, %error, "could not remove an ephemeral fork that has stopped");
            Done::reading(stopped).about(entry.id)
        }
    }
}

/// Stops a VM whose lock `operation` holds.
pub(crate) async fn stop(
    app: &App,
    entry: &VmEntry,
    operation: &'static str,
    timeout: Option<HumanDuration>,
    force: bool,
) -> Result<Stopped, Error> {
    let began = Instant::now();
    // Until the end is recorded, so that Ctrl-C cuts off only the wait for the guest.
    let job = app.jobs.start(operation, &entry.name);
    let observer = app.observer();
    let observation = if force { observer.observe_process(entry).await } else { observer.observe_locked(entry).await };
    let transition =
        observation.status.transition(Action::Stop).map_err(|refused| Error::wrong_state(entry, refused))?;
    let power_down = timeout.map_or(app.timeouts().power_down, HumanDuration::duration);
    if let (Some(run), Some(QemuProcess::Hidden)) = (&entry.run, &observation.process) {
        if force || observation.status == Status::Unreachable {
            return Err(Error::ProcessHidden { vm: entry.name.clone(), is_forced: force });
        }
        return stop_hidden(app, &job, entry, run, observation.status, power_down).await;
    }
    match (transition, &entry.run, observation.visible_process()) {
        (Transition::Proceed, Some(run), Some(process)) if force => {
            // The kill does not wait for a disk: it is polled first, so it is sent first.
            let killed = app.shutdown();
            let (killed, entry) =
                join(killed.kill(&entry.name, process), mark_stopping(app, entry, run, process)).await;
            killed?;
            let outcome = StopOutcome::without_guest(StopMethod::Sigkill, began.elapsed());
            Ok(mark_stopped(app, &entry, run, Some(process), &outcome).await)
        }
        (Transition::Proceed, Some(run), Some(process)) => {
            ensure_responsive(observer.processes, &entry.name, process)?;
            let entry = mark_stopping(app, entry, run, process).await;
            let (vm, status) = (&entry.name, observation.status);
            let request = StopRequest { job: &job, vm, run, process, status, power_down };
            let outcome = app.shutdown().shut_down(&request).await?;
            Ok(mark_stopped(app, &entry, run, Some(process), &outcome).await)
        }
        (Transition::Proceed | Transition::NoOp, _, _) => {
            let outcome = StopOutcome::without_guest(StopMethod::None, Duration::ZERO);
            Ok(Stopped::new(VmStatus::new(entry, &observation), &outcome))
        }
    }
}

/// Stops a VM whose process is in another PID namespace, over its monitor.
///
/// Errors: [`Error::ProcessHidden`] if that is not enough, since the process cannot be signaled.
async fn stop_hidden(
    app: &App,
    job: &Job<'_>,
    entry: &VmEntry,
    run: &Run,
    status: Status,
    power_down: Duration,
) -> Result<Stopped, Error> {
    let recorded = run.process.as_ref();
    let process = recorded.cloned().unwrap_or_else(unidentified);
    let processes = HiddenProcess { hypervisor: &*app.ports.hypervisor, paths: &run.paths };
    // A process that was never recorded is not recorded now: its identity is unknown here.
    let entry = match recorded {
        Some(process) => mark_stopping(app, entry, run, process).await,
        None => entry.clone(),
    };
    let request = StopRequest { job, vm: &entry.name, run, process: &process, status, power_down };
    let outcome = match (Shutdown { processes: &processes, ..app.shutdown() }).shut_down(&request).await {
        Err(Error::Process(ProcessError::OtherNamespace)) => {
            return Err(Error::ProcessHidden { vm: entry.name.clone(), is_forced: false });
        }
        outcome => outcome?,
    };
    Ok(mark_stopped(app, &entry, run, recorded, &outcome).await)
}

/// Records that the VM is stopping, in case this process is killed; a full disk does not prevent the stop.
async fn mark_stopping(app: &App, entry: &VmEntry, run: &Run, process: &ProcessIdentity) -> VmEntry {
    let stopping = Run { process: Some(process.clone()), ..run.at_phase(Phase::Stopping) };
    let written = app.committer().record_run(entry, Some(stopping)).await;
    app.faults.reach(FaultPoint::Marked(Stop::NAME));
    written.unwrap_or_else(|error| {
        tracing::warn!(%error, "could not record that the VM is stopping");
        entry.clone()
    })
}

/// Removes the sockets and records how the run ended.
///
/// The VM is stopped even if that cannot be written: every observation finds its process gone.
async fn mark_stopped(
    app: &App,
    entry: &VmEntry,
    run: &Run,
    process: Option<&ProcessIdentity>,
    outcome: &StopOutcome,
) -> Stopped {
    app.faults.reach(FaultPoint::StopGone);
    // The pid file is among the sockets, and says how QEMU ended.
    let (ending, method, details) = app.shutdown().ending(run, outcome).await;
    app.ports.hypervisor.remove_sockets(&run.paths).await;
    app.faults.reach(FaultPoint::StopCleared);
    let ended = Run { process: process.cloned(), ..run.at_phase(Phase::Ended(ending)) };

    let mut changes = ChangeSet::default().and(run_change(entry, Some(ended.clone())));
    let mut data = stopped_data(ending.reason, method, &details);
    if outcome.presses > 0 {
        data["presses"] = json!(outcome.presses);
    }
    changes.events.push(app.committer().event(kind::VM_STOPPED, entry, data));
    app.faults.reach(FaultPoint::BeforeCommit(Stop::NAME));
    if let Err(error) = app.committer().commit(changes).await {
        tracing::warn!(%error, "could not record that the VM stopped");
    }
    app.faults.reach(FaultPoint::Committed(Stop::NAME));
    let entry = VmEntry { run: Some(ended), ..entry.clone() };
    let observation = Observation { details, ..Observation::without_process(Status::Stopped(ending)) };
    Stopped { method, ..Stopped::new(VmStatus::new(&entry, &observation), outcome) }
}
