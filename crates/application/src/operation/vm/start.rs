//! `start`: starts a VM and returns once its monitor answers.

use std::time::Duration;

use derive_setters::Setters;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::command_line::CommandLine;
use maqet_domain::event::kind;
use maqet_domain::machine::Machine;
use maqet_domain::metric::step;
use maqet_domain::network::{Forward, NetworkSpec, bound_ports};
use maqet_domain::port::{Launch, LaunchError, Launched};
use maqet_domain::qmp::RunState;
use maqet_domain::storage::ImagePlan;
use maqet_domain::vm::{
    Action, BootNumber, ExitReport, HaltReason, InvalidTransition, MonitorAnswer, Phase, ProcessObservation,
    QemuProcess, Run, RunEnd, RunPaths, Status, Transition, Vm, VmEntry,
};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::app::commit::run_change;
use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::checkpoint::resume::Resumed;
use crate::job::Job;
use crate::log::failure::LogFailure;
use crate::log::keeper::LogKeeper;
use crate::maintenance::error_chain;
use crate::start::create_disks::DiskCreator;
use crate::start::disk_error::DiskError;
use crate::start::drives::Drive;
use crate::start::failure::{diagnose, uses_of};
use crate::start::image_owner::{ImageOwner, image_owner, start_image_error};
use crate::start::link_listeners::{require_free_ports, require_free_sockets, require_links};
use crate::start::mismatches::ImageMismatches;
use crate::start::preflight::CheckedStart;
use crate::vm::monitor::info_usernet;
use crate::vm::observe::{Observation, VmStatus};
use crate::vm::reconcile::stopped_data;
use crate::vm::shutdown::StopMethod;
use crate::{App, Error, HumanDuration, limits};

/// Starts a VM.
///
/// ```
/// use std::time::Duration;
/// use maqet_application::HumanDuration;
/// use maqet_application::operation::Start;
///
/// let start = Start::new("web").timeout(HumanDuration::new(Duration::from_secs(90)));
/// assert_eq!(start.vm, "web");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Start {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// How long QEMU may take until its monitor answers.
    pub timeout: Option<HumanDuration>,
    /// Images to create although they were created once and are gone: names of drives, `uefi-vars`, or `tpm-state`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recreate: Vec<String>,
    /// Whether the guest does not run until it is resumed.
    #[serde(default)]
    pub paused: bool,
    /// Whether this process stays in the foreground: QEMU is killed when it ends, even by SIGKILL, and does not react to
    /// SIGHUP, SIGINT, SIGTERM, SIGUSR1 and SIGUSR2, which this process has to handle. A VM that runs already is refused.
    #[serde(default)]
    pub foreground: bool,
}

impl Start {
    /// Starts the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into(), timeout: None, recreate: Vec::new(), paused: false, foreground: false }
    }
}

/// A VM that was started; its guest may have ended QEMU already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Started {
    /// Its state.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// Whether this call started it; `false` if it was running already.
    pub changed: bool,
    /// Images that differ from the definition; they stay as they are.
    #[serde(flatten)]
    pub mismatches: ImageMismatches,
    /// Why the events and logs of this boot cannot be written, as on a full disk; the VM runs without them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_failure: Option<LogFailure>,
    /// What QEMU complained about, and what of the definition is probably not meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Started {
    fn new(vm: VmStatus, changed: bool) -> Self {
        Self { vm, changed, mismatches: ImageMismatches::default(), log_failure: None, warnings: Vec::new() }
    }
}

impl Operation for Start {
    const NAME: &'static str = "start";
    const EFFECT: Effect = Effect::Acts;
    type Output = Started;

    async fn run(&self, app: &App) -> Result<Done<Started>, Error> {
        let (guard, vm) = app.vms().lock(&self.vm, Self::NAME).await?;
        let options = StartOptions {
            timeout: self.timeout,
            recreate: &self.recreate,
            paused: self.paused,
            foreground: self.foreground,
            resumed: None,
        };
        Ok(start(app, &vm, options).await?.about(vm.entry.id).holding(guard))
    }
}

/// How a VM is started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StartOptions<'a> {
    /// How long QEMU may take until its monitor answers.
    pub(crate) timeout: Option<HumanDuration>,
    /// Images to create even if they were created once.
    pub(crate) recreate: &'a [String],
    /// Whether the guest does not run until it is resumed.
    pub(crate) paused: bool,
    /// Whether QEMU ends with this process.
    pub(crate) foreground: bool,
    /// The checkpoint that the guest goes on from, instead of booting.
    pub(crate) resumed: Option<Resumed<'a>>,
}

/// Starts a VM whose lock the caller holds.
///
/// In order: check everything that can be checked, create missing disks, record the run as starting, launch QEMU, and
/// record it as running. A start that is killed in between is found by its record; one that fails is rolled back. A guest
/// that ends QEMU before the monitor responds has run: whether it is that fast depends on the host.
pub(crate) async fn start(app: &App, vm: &Vm, options: StartOptions<'_>) -> Result<Done<Started>, Error> {
    let StartOptions { recreate, paused, foreground, .. } = options;
    let timeout = options.timeout.map_or(app.timeouts().start, HumanDuration::duration);
    let job = app.jobs.start(Start::NAME, &vm.entry.name);
    let observation = job.run(observe_once_up(app, &vm.entry, timeout)).await?;
    match observation.transition(&vm.entry, Action::Start)? {
        Transition::Proceed => {}
        Transition::NoOp if foreground => {
            return Err(Error::wrong_state(
                &vm.entry,
                InvalidTransition { status: observation.status, action: Action::Start },
            ));
        }
        Transition::NoOp if !recreate.is_empty() => {
            observation.transition(&vm.entry, Action::ChangeDisks)?;
        }
        Transition::NoOp => return Ok(already_running(app, vm, observation).await),
    }

    let mut machine = app.machine(vm)?;
    job.run(app.preflight().resolve_architecture(&mut machine)).await??;
    let (boot, paths) = app.folders.next_run(&vm.entry);
    let prepare = async {
        let preflight = app.preflight();
        preflight.require_unused(&vm.entry, &paths).await?;
        let key_warning = make_key(app, &vm.entry, &machine).await;
        let mut checked = preflight.check(&vm.entry, &machine, &paths, recreate).await?;
        checked.disks.warnings.extend(key_warning);
        preflight.require_unlocked(&checked.disks.drives).await?;
        require_free_ports(app, &vm.entry.name, &machine).await?;
        require_free_sockets(app, &vm.entry.name, checked.command_line.args(), &paths.sockets).await?;
        Ok::<_, Error>(checked)
    };
    let CheckedStart { mut command_line, files, disks } = match job.run(prepare).await? {
        Ok(checked) => checked,
        Err(Error::Image(source)) => return Err(start_image_error(app, &vm.entry, &machine, source).await),
        Err(error) => return Err(error),
    };
    if let Some(resumed) = options.resumed {
        command_line = resumed.command_line(command_line)?;
    }
    let creator = DiskCreator::new(app, &job, &vm.entry).await?;
    creator.create_all(&machine, &disks.drives).await?;
    let mut created = creator.tpm_record(&machine);
    created.extend(app.preflight().images_used(&vm.entry, &machine, &disks.drives).await);

    let entry = mark_starting(app, &vm.entry, boot, &paths).await?;
    app.faults.reach(FaultPoint::Marked(Start::NAME));
    let command_line = if paused { command_line.paused() } else { command_line };
    if let Err(error) = Box::pin(create_overlays(app, &job, &disks.drives, &paths)).await {
        roll_back(app, &entry, vm.entry.run.clone(), &error.to_string()).await;
        return Err(error);
    }
    let launch = Launch { command_line, paths, files, timeout, is_foreground: foreground, is_successor: false };
    let span = tracing::trace_span!("launch", vm = %vm.entry.name);
    let launched = app.meter.step(step::LAUNCH, span, app.ports.hypervisor.launch(&launch));
    match job.run(launched).await {
        Ok(Ok(launched)) => {
            let arguments = launch.command_line.args();
            if let Err(error) = require_links(app, &entry.name, &launch.paths, arguments).await {
                app.shutdown().kill(&entry.name, &launched.process).await?;
                roll_back(app, &entry, vm.entry.run.clone(), &error.to_string()).await;
                return Err(error);
            }
            let mut launched = launched;
            if let Some(resumed) = options.resumed {
                if let Err(error) = job.run(resumed.load(app, &launch.paths, paused)).await.and_then(|loaded| loaded) {
                    app.shutdown().kill(&entry.name, &launched.process).await?;
                    roll_back(app, &entry, vm.entry.run.clone(), &error.to_string()).await;
                    return Err(error);
                }
                launched.state = if paused { RunState::Paused } else { RunState::Running };
            }
            let log_failure = launched.log_failure.clone();
            let warnings = all_warnings(&machine, &disks.warnings, launched.warnings.clone());
            let records = shown(&launch.paths.records);
            let mut done = mark_running(app, entry, &machine, launched, created).await?;
            done.value.mismatches = disks.mismatches;
            done.value.warnings = warnings;
            done.value.log_failure = log_failure.map(|cause| LogFailure { directory: records, cause });
            Ok(done)
        }
        Ok(Err(LaunchError::GuestEnded { report, warnings })) => {
            let warnings = all_warnings(&machine, &disks.warnings, warnings);
            let mut done = mark_ended(app, entry, *report, created).await?;
            done.value = Started { mismatches: disks.mismatches, warnings, ..done.value };
            Ok(done)
        }
        Ok(Err(source)) => {
            roll_back(app, &entry, vm.entry.run.clone(), &source.to_string()).await;
            Err(launch_error(app, entry, &machine, &launch.command_line, source).await)
        }
        Err(cancelled) => {
            roll_back(app, &entry, vm.entry.run.clone(), "the start was canceled").await;
            Err(cancelled)
        }
    }
}

/// Refuses what a start of the VM would refuse, as far as that is known before.
pub(crate) async fn check(app: &App, vm: &Vm, options: StartOptions<'_>) -> Result<(), Error> {
    let mut machine = app.machine(vm)?;
    app.preflight().resolve_architecture(&mut machine).await?;
    let (_, paths) = app.folders.next_run(&vm.entry);
    let checked = app.preflight().check(&vm.entry, &machine, &paths, options.recreate).await?;
    match options.resumed {
        Some(resumed) => resumed.command_line(checked.command_line).map(drop),
        None => Ok(()),
    }
}

/// Makes the key for SSH of a VM that is to have one; returns why it has none, which is in the way of nothing else.
async fn make_key(app: &App, entry: &VmEntry, machine: &Machine) -> Option<String> {
    if !machine.ssh.wants_own_key(machine.seed.as_ref()) {
        return None;
    }
    let made = app.ports.ssh.make_key(&app.folders.vm_key(&entry.id), &format!("maqet-{}", entry.name)).await;
    made.err().map(|error| format!("the guest gets no key for SSH: {}", error_chain(&error)))
}

/// Observes a VM; waits for a QEMU whose starting process was killed and that may not be up yet.
async fn observe_once_up(app: &App, entry: &VmEntry, timeout: Duration) -> Observation {
    let deadline = Instant::now() + timeout;
    let was_starting = entry.run.as_ref().is_some_and(|run| run.phase == Phase::Starting);
    loop {
        let observation = app.observer().observe_locked(entry).await;
        let is_up = !matches!(observation.status, Status::Starting | Status::Unreachable);
        if is_up || !was_starting || Instant::now() > deadline {
            return observation;
        }
        tokio::time::sleep(limits::RETRY_INTERVAL).await;
    }
}

/// Records that a start is under way, so that one that is killed can be found.
async fn mark_starting(app: &App, entry: &VmEntry, boot: BootNumber, paths: &RunPaths) -> Result<VmEntry, Error> {
    if let Some(last) = &entry.run {
        app.ports.hypervisor.remove_sockets(&last.paths).await;
        LogKeeper::new(app).keep(&last.paths).await;
    }
    let started_at = app.ports.clock.now();
    let paths = paths.clone();
    let run = Run { boot, phase: Phase::Starting, process: None, started_at, paths, forwards: Vec::new() };
    app.committer().record_run(entry, Some(run)).await
}

/// Creates the overlays that the run writes to instead of images; `launch` removes their names once QEMU has them open.
async fn create_overlays(app: &App, job: &Job<'_>, drives: &[Drive<'_>], paths: &RunPaths) -> Result<(), Error> {
    let overlays: Vec<ImagePlan> = drives.iter().filter_map(|drive| drive.overlay(paths)).collect();
    if !overlays.is_empty() {
        // Those of a QEMU that was run by hand, from a printed command line.
        app.ports.hypervisor.remove_sockets(paths).await;
    }
    for overlay in &overlays {
        job.run(app.ports.images.create(overlay)).await??;
    }
    Ok(())
}

/// Records that QEMU is up; if that cannot be written, QEMU is not left running.
async fn mark_running(
    app: &App,
    entry: VmEntry,
    machine: &Machine,
    launched: Launched,
    created: Vec<Change>,
) -> Result<Done<Started>, Error> {
    let mut run = entry.run.clone();
    if let Some(run) = &mut run {
        run.phase = Phase::Running;
        run.process = Some(launched.process.clone());
        run.forwards = forwards(app, run, machine).await;
    }
    let mut changes = ChangeSet::default().and(run_change(&entry, run.clone()));
    changes.changes.extend(created);
    let data = json!({ "boot": run.as_ref().map(|run| run.boot) });
    changes.events.push(app.committer().event(kind::VM_STARTED, &entry, data));
    app.faults.reach(FaultPoint::BeforeCommit(Start::NAME));
    if let Err(error) = app.committer().commit(changes).await {
        app.shutdown().kill(&entry.name, &launched.process).await?;
        if let Some(run) = &run {
            app.ports.hypervisor.remove_sockets(&run.paths).await;
        }
        return Err(error.into());
    }
    app.faults.reach(FaultPoint::Committed(Start::NAME));

    let answer = ProcessObservation::Answered(MonitorAnswer::State(launched.state));
    let status = Status::from_run(run.as_ref(), answer, false);
    let observation = Observation {
        halted: HaltReason::from_run_state(launched.state),
        ..Observation::with_process(status, QemuProcess::Visible(launched.process))
    };
    let entry = VmEntry { run, ..entry };
    Ok(Done::reading(Started::new(VmStatus::new(&entry, &observation), true)))
}

/// Records a run whose guest ended QEMU before its monitor responded; a moment later it would have been observed so.
async fn mark_ended(
    app: &App,
    entry: VmEntry,
    report: ExitReport,
    created: Vec<Change>,
) -> Result<Done<Started>, Error> {
    let now = app.ports.clock.now();
    let end = RunEnd::from_exit(Phase::Running, report.end, false);
    let end = RunEnd { at: end.at.or(Some(now)), ..end };
    let run = entry.run.as_ref().map(|run| run.at_phase(Phase::Ended(end)));
    let boot = run.as_ref().map(|run| run.boot);
    let mut changes = ChangeSet::default().and(run_change(&entry, run.clone()));
    changes.changes.extend(created);
    let mut stopped = stopped_data(end.reason, StopMethod::Unobserved, &report.details);
    stopped["boot"] = json!(boot);
    changes.events.push(app.committer().event(kind::VM_STARTED, &entry, json!({ "boot": boot })));
    changes.events.push(app.committer().event(kind::VM_STOPPED, &entry, stopped));
    app.committer().commit(changes).await?;

    let observation = Observation { details: report.details, ..Observation::without_process(Status::Stopped(end)) };
    let entry = VmEntry { run, ..entry };
    Ok(Done::reading(Started::new(VmStatus::new(&entry, &observation), true)))
}

/// Returns what of the definition is probably not meant, and what QEMU complained about.
fn all_warnings(machine: &Machine, of_disks: &[String], of_qemu: Vec<String>) -> Vec<String> {
    of_disks.iter().cloned().chain(machine.relative_path_warnings()).chain(of_qemu).collect()
}

/// Reports a VM that is running already, and records its process if the starting process was killed before it did.
async fn already_running(app: &App, vm: &Vm, observation: Observation) -> Done<Started> {
    let unchanged = |vm: VmStatus| Started::new(vm, false);
    let entry = &vm.entry;
    match (&entry.run, observation.visible_process()) {
        (Some(run), Some(process)) if run.process.is_none() => {
            app.ports.hypervisor.finish_launch(&run.paths).await;
            let forwards = match app.machine(vm) {
                Ok(machine) => forwards(app, run, &machine).await,
                Err(_) => Vec::new(),
            };
            let run = Run { process: Some(process.clone()), forwards, ..run.at_phase(Phase::Running) };
            let now = VmEntry { run: Some(run.clone()), ..entry.clone() };
            let started = unchanged(VmStatus::new(&now, &observation));
            let data = json!({ "boot": run.boot, "adopted": true });
            let event = app.committer().event(kind::VM_STARTED, entry, data);
            Done::changing(started, entry.id, ChangeSet::default().and(run_change(entry, Some(run)))).event(event)
        }
        (_, _) => Done::reading(unchanged(VmStatus::new(entry, &observation))),
    }
}

/// Returns the forwarded ports, with those that QEMU chose.
pub(crate) async fn forwards(app: &App, run: &Run, machine: &Machine) -> Vec<Forward> {
    let configured: Vec<Forward> = machine.network.iter().flat_map(|card| card.forward.iter().copied()).collect();
    if configured.is_empty() {
        return configured;
    }
    match info_usernet(&*app.ports.monitors, run).await {
        Some(usernet) => {
            let bound = |card: &NetworkSpec| bound_ports(&card.forward, card.name.as_str(), &usernet);
            machine.network.iter().flat_map(bound).collect()
        }
        None => configured,
    }
}

/// Returns the error of a launch; an orphan or another VM that has a disk open is reported as such.
async fn launch_error(
    app: &App,
    entry: VmEntry,
    machine: &Machine,
    command_line: &CommandLine,
    source: LaunchError,
) -> Error {
    let LaunchError::ImageInUse { by: user, path } = &source else {
        return match diagnose(app, &entry.name, machine, command_line, source).await {
            Ok(failure) => Error::StartFailure(Box::new(failure)),
            Err(source) => Error::Launch { vm: entry.name, source },
        };
    };
    let named = uses_of((&*app.ports.paths, &*app.ports.image_tools), command_line.args(), path).await;
    // The process that would have been asked for is gone: it was this QEMU itself.
    if user.is_none() && named > 1 {
        return DiskError::UsedTwice { vm: entry.name, path: path.clone(), source: source.into() }.into();
    }
    match image_owner(app, user.as_ref()).await {
        ImageOwner::Orphan(pid) => Error::DiskOfOrphan { vm: entry.name, pid, source: source.into() },
        ImageOwner::Vm(user) => {
            let backing = (named == 0).then(|| path.clone());
            DiskError::InUse { vm: entry.name, user, backing, source: source.into() }.into()
        }
        ImageOwner::Other => Error::Launch { vm: entry.name, source },
    }
}

/// Returns the VM to its last run; a failure here is only logged, as the reason of the failed start matters more.
async fn roll_back(app: &App, entry: &VmEntry, last: Option<Run>, reason: &str) {
    if let Some(run) = &entry.run {
        app.ports.hypervisor.remove_sockets(&run.paths).await;
    }
    app.faults.reach(FaultPoint::StartFailed);
    let mut changes = ChangeSet::default().and(run_change(entry, last));
    changes.events.push(app.committer().event(kind::VM_START_FAILED, entry, json!({ "error": reason })));
    if let Err(error) = app.committer().commit(changes).await {
        tracing::warn!(%error, "could not record that the start failed");
    }
}
