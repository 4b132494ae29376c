//! `start`: starts a VM and returns once its monitor answers.

use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use maqet_domain::change::ChangeSet;
use maqet_domain::command_line::CommandLine;
use maqet_domain::event::kind;
use maqet_domain::machine::Machine;
use maqet_domain::network::{Forward, NetworkSpec, taken_ports};
use maqet_domain::port::{Launch, LaunchError, Launched};
use maqet_domain::vm::{
    Action, BootNumber, MonitorAnswer, Phase, ProcessObservation, Run, RunPaths, Status, Transition, Vm, VmEntry,
};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, Operation};
use crate::app::run_change;
use crate::start::size_mismatch::SizeMismatch;
use crate::vm::observe::{Observation, VmStatus};
use crate::vm::orphan::orphan_among;
use crate::vm::unresponsive::refusal;
use crate::{App, Error, HumanDuration, limits};

/// Starts a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
    /// How long QEMU may take until its monitor answers.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
}

/// A VM that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Started {
    /// Its state.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// Whether this call started it; `false` if it ran already.
    pub changed: bool,
    /// Drives whose images keep another size than the definition says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub size_mismatches: Vec<SizeMismatch>,
}

impl Operation for Start {
    const NAME: &'static str = "start";
    const EFFECT: Effect = Effect::Acts;
    type Output = Started;

    async fn run(&self, app: &App) -> Result<Done<Started>, Error> {
        let (guard, vm) = app.lock(&self.vm, Self::NAME).await?;
        Ok(start(app, &vm, self.timeout).await?.about(vm.entry.id).holding(guard))
    }
}

/// Starts a VM whose lock the caller holds.
pub(super) async fn start(app: &App, vm: &Vm, timeout: Option<HumanDuration>) -> Result<Done<Started>, Error> {
    let deadline = timeout.map_or(app.timeouts().start, HumanDuration::duration);
    let seen = look_once_up(app, &vm.entry, deadline).await;
    let step = seen.status.on(Action::Start);
    match step.map_err(|refused| refusal(&vm.entry, &seen, refused))? {
        Transition::Proceed => {}
        Transition::NoOp => return Ok(adopted(app, vm, seen).await),
    }

    let machine = app.machine(vm)?;
    let (boot, paths) = app.next_run(&vm.entry);
    // Before disks are made, and taken over with the size they have.
    let size_mismatches = app.size_mismatches(&vm.entry, &machine).await;
    let launch = prepare(app, vm, &machine, &paths, deadline).await?;
    let _until_written_down = app.interruption.half_way();
    let entry = mark_starting(app, &vm.entry, boot, &paths).await?;
    app.faults.reach(FaultPoint::Intended(Start::NAME));
    match launched(app, &launch).await {
        Ok(launched) => {
            let mut done = finish(app, entry, &machine, launched).await?;
            done.value.size_mismatches = size_mismatches;
            Ok(done)
        }
        Err(source) => {
            give_up(app, &entry, vm.entry.run.clone(), &source.to_string()).await;
            Err(refused(app, entry, source).await)
        }
    }
}

/// Starts QEMU; nothing of it is left where the user has had enough of it meanwhile.
async fn launched(app: &App, launch: &Launch) -> Result<Launched, LaunchError> {
    let interrupted = std::pin::pin!(app.interruption.told());
    match select(app.ports.hypervisor.launch(launch), interrupted).await {
        Either::Left((launched, _)) => launched,
        Either::Right(((), launch)) => {
            drop(launch);
            Err(LaunchError::Interrupted)
        }
    }
}

/// Looks at a VM; a QEMU whose starter was killed may not have come up yet, and is given the time for it.
async fn look_once_up(app: &App, entry: &VmEntry, patience: Duration) -> Observation {
    let until = Instant::now() + patience;
    let is_half_way = entry.run.as_ref().is_some_and(|run| run.phase == Phase::Starting);
    loop {
        let seen = app.observe_locked(entry).await;
        let is_up = !matches!(seen.status, Status::Starting | Status::Unreachable);
        if is_up || !is_half_way || Instant::now() > until {
            return seen;
        }
        tokio::time::sleep(limits::ASK_AGAIN).await;
    }
}

/// Checks everything that can be checked, and makes what must be there, before QEMU is tried.
async fn prepare(app: &App, vm: &Vm, machine: &Machine, paths: &RunPaths, deadline: Duration) -> Result<Launch, Error> {
    require_unused(app, &vm.entry, paths).await?;
    let command_line = checked(app, vm, machine, paths).await?;
    app.prepare_firmware(&vm.entry, machine).await?;
    app.prepare_disks(&vm.entry, machine).await?;
    Ok(Launch { command_line, paths: paths.clone(), deadline })
}

/// Returns the command line of a machine, once everything it needs and nobody makes is there; nothing is made.
async fn checked(app: &App, vm: &Vm, machine: &Machine, paths: &RunPaths) -> Result<CommandLine, Error> {
    app.check_paths(machine).await?;
    let command_line = app.command_line(&vm.entry, machine, paths).await?;
    app.require_files(&vm.entry, machine).await?;
    Ok(command_line)
}

/// Refuses what a start of the VM would refuse, as far as that can be known before.
pub(super) async fn check(app: &App, vm: &Vm) -> Result<(), Error> {
    let machine = app.machine(vm)?;
    checked(app, vm, &machine, &app.next_run(&vm.entry).1).await.map(drop)
}

/// Refuses to use the files of a QEMU that somebody runs by a command line we showed: an attempt at them would end it.
async fn require_unused(app: &App, entry: &VmEntry, paths: &RunPaths) -> Result<(), Error> {
    // The places are new for each run, so that the file is there only after such a line, or after a failed attempt.
    if !app.ports.images.exists(&paths.pid_file()).await {
        return Ok(());
    }
    match app.ports.hypervisor.find(paths).await {
        Some(process) => Err(Error::RunsByHand { vm: entry.name.clone(), pid: process.pid }),
        None => Ok(()),
    }
}

/// Writes down that a start is underway, so that one that is killed half-way can be found.
async fn mark_starting(app: &App, entry: &VmEntry, boot: BootNumber, paths: &RunPaths) -> Result<VmEntry, Error> {
    if let Some(last) = &entry.run {
        app.ports.hypervisor.clear(&last.paths).await;
    }
    let started_at = app.ports.clock.now();
    let paths = paths.clone();
    let run = Run { boot, phase: Phase::Starting, process: None, started_at, paths, forwards: Vec::new() };
    app.record_run(entry, Some(run)).await
}

const fn already(vm: VmStatus) -> Started {
    Started { vm, changed: false, size_mismatches: Vec::new() }
}

/// Says that a VM ran already, and writes its process down if a starter that was killed did not.
async fn adopted(app: &App, vm: &Vm, seen: Observation) -> Done<Started> {
    let entry = &vm.entry;
    match (&entry.run, &seen.process) {
        (Some(run), Some(process)) if run.process.is_none() => {
            app.ports.hypervisor.record(&run.paths).await;
            let forwards = match app.machine(vm) {
                Ok(machine) => forwards(app, run, &machine).await,
                Err(_) => Vec::new(),
            };
            let run = Run { process: Some(process.clone()), forwards, ..run.at_phase(Phase::Running) };
            let now = VmEntry { run: Some(run.clone()), ..entry.clone() };
            let done = already(VmStatus::new(&now, &seen));
            let event = app.event(kind::VM_STARTED, entry, json!({ "boot": run.boot, "adopted": true }));
            Done::changing(done, entry.id, ChangeSet::default().and(run_change(entry, Some(run)))).telling(event)
        }
        (_, _) => Done::reading(already(VmStatus::new(entry, &seen))),
    }
}

/// Writes down how the machine came up; one that cannot be written down is not left running.
async fn finish(app: &App, entry: VmEntry, machine: &Machine, launched: Launched) -> Result<Done<Started>, Error> {
    let mut run = entry.run.clone();
    if let Some(run) = &mut run {
        run.phase = Phase::Running;
        run.process = Some(launched.process.clone());
        run.forwards = forwards(app, run, machine).await;
    }
    let mut changes = ChangeSet::default().and(run_change(&entry, run.clone()));
    changes.events.push(app.event(kind::VM_STARTED, &entry, json!({ "boot": run.as_ref().map(|run| run.boot) })));
    app.faults.reach(FaultPoint::BeforeCommit(Start::NAME));
    if let Err(error) = app.commit(changes).await {
        app.kill(&entry.name, &launched.process).await?;
        if let Some(run) = &run {
            app.ports.hypervisor.clear(&run.paths).await;
        }
        return Err(error.into());
    }
    app.faults.reach(FaultPoint::Committed(Start::NAME));

    let status =
        Status::from_run(run.as_ref(), ProcessObservation::Answered(MonitorAnswer::State(launched.state)), false);
    let entry = VmEntry { run, ..entry };
    let seen = Observation { status, process: Some(launched.process), occupation: None };
    Ok(Done::reading(Started { vm: VmStatus::new(&entry, &seen), changed: true, size_mismatches: Vec::new() }))
}

/// Returns the forwarded ports, with those that QEMU chose itself.
pub(crate) async fn forwards(app: &App, run: &Run, machine: &Machine) -> Vec<Forward> {
    let wanted: Vec<Forward> = machine.network.iter().flat_map(|card| card.forward.iter().copied()).collect();
    if wanted.is_empty() {
        return wanted;
    }
    match app.usernet(run).await {
        Some(usernet) => {
            let taken = |card: &NetworkSpec| taken_ports(&card.forward, card.name.as_str(), &usernet);
            machine.network.iter().flat_map(taken).collect()
        }
        None => wanted,
    }
}

/// Returns the error of a launch; that a QEMU which no VM owns is in the way is told as such.
async fn refused(app: &App, entry: VmEntry, source: LaunchError) -> Error {
    let user = if let LaunchError::ImageInUse { by, .. } = &source { by.as_ref() } else { None };
    match orphan_among(app, user).await {
        Some(pid) => Error::DiskOfOrphan { vm: entry.name, pid, source: source.into() },
        None => Error::Launch { vm: entry.name, source },
    }
}

/// Takes the VM back to its last run; the reason the start failed is worth more than a failure here.
async fn give_up(app: &App, entry: &VmEntry, last: Option<Run>, why: &str) {
    if let Some(run) = &entry.run {
        app.ports.hypervisor.clear(&run.paths).await;
    }
    app.faults.reach(FaultPoint::StartFailed);
    let mut changes = ChangeSet::default().and(run_change(entry, last));
    changes.events.push(app.event(kind::VM_START_FAILED, entry, json!({ "error": why })));
    if let Err(error) = app.commit(changes).await {
        tracing::warn!(%error, "could not write down that the start failed");
    }
}
