//! Finding out the state of a VM: what is recorded, corrected by what is observed.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use maqet_domain::network::Forward;
use maqet_domain::port::{
    Clock, ForeignVm, Freeze, FrozenCgroup, Holder, Hypervisor, LockName, Locks, Monitors, Processes, Store,
};
use maqet_domain::qmp::{QmpCommand, RunState};
use maqet_domain::text::quote;
use maqet_domain::vm::{
    HaltReason, MonitorAnswer, MonitorRole, PendingWork, Phase, ProcessIdentity, ProcessObservation, QemuProcess, Run,
    StateDetails, StateReason, Status, VmEntry, failed_disk,
};
use serde::Serialize;

use crate::app::shown;
use crate::limits;

/// The observed state of a VM.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) status: Status,
    /// Its process, if it is alive.
    pub(crate) process: Option<QemuProcess>,
    /// What it is busy with: an operation that holds its lock, or a QEMU that does not respond.
    pub(crate) busy: Option<BusyReason>,
    /// Why its guest does not run, if its QEMU is alive.
    pub(crate) halted: Option<HaltReason>,
    /// What is known about the reason for its status.
    pub(crate) details: StateDetails,
    /// How often its guest reset itself, if that was counted.
    pub(crate) resets: u64,
    /// How long its guest did not run since it booted, if that was found out.
    pub(crate) stopped: Duration,
}

/// What was observed of the process of a run.
struct ProcessReport {
    observed: ProcessObservation,
    /// What keeps it from responding.
    cause: Option<BusyReason>,
    /// Why it ended.
    details: StateDetails,
}

impl ProcessReport {
    fn new(observed: ProcessObservation) -> Self {
        Self { observed, cause: None, details: StateDetails::default() }
    }
}

impl Observation {
    /// A VM without a process that no operation works on.
    pub(crate) fn without_process(status: Status) -> Self {
        Self {
            status,
            process: None,
            busy: None,
            halted: None,
            details: StateDetails::default(),
            resets: 0,
            stopped: Duration::ZERO,
        }
    }

    /// A VM whose process is alive.
    pub(crate) fn with_process(status: Status, process: QemuProcess) -> Self {
        Self { process: Some(process), ..Self::without_process(status) }
    }

    /// Returns its process, if it is alive and visible.
    pub(crate) fn visible_process(&self) -> Option<&ProcessIdentity> {
        self.process.as_ref().and_then(QemuProcess::visible)
    }

    /// Returns why the VM is in its state, where the state has a reason.
    pub(crate) fn reason(&self) -> Option<StateReason> {
        StateReason::new(self.status, self.halted)
    }
}

/// What a VM is busy with.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BusyReason {
    /// The operation that holds the VM's lock, as in `snapshot.create`; else `main-loop` where QEMU's main loop is
    /// blocked, `sigstop` where its process was stopped by a signal, `frozen-cgroup` where its cgroup is frozen, and
    /// `other-pid-namespace` where its process runs in another PID namespace and its monitor is not available here.
    pub reason: String,
    /// Since when (RFC 3339, UTC), where that is known.
    pub since: Option<String>,
    /// The process that runs the operation.
    pub pid: Option<u32>,
    /// The shell command that thaws a frozen cgroup.
    pub thaw: Option<String>,
}

impl BusyReason {
    /// QEMU's main loop is blocked.
    pub(crate) const MAIN_LOOP: &'static str = "main-loop";

    /// QEMU's process was stopped by a signal.
    pub(crate) const SIGSTOP: &'static str = "sigstop";

    /// QEMU's cgroup is frozen.
    pub(crate) const FROZEN_CGROUP: &'static str = "frozen-cgroup";

    /// QEMU's process is not visible here, and neither are its sockets.
    pub(crate) const OTHER_PID_NAMESPACE: &'static str = "other-pid-namespace";

    pub(crate) fn other_pid_namespace() -> Self {
        Self { reason: Self::OTHER_PID_NAMESPACE.to_owned(), since: None, pid: None, thaw: None }
    }

    pub(crate) fn main_loop() -> Self {
        Self { reason: Self::MAIN_LOOP.to_owned(), since: None, pid: None, thaw: None }
    }

    /// QEMU's process is frozen.
    pub(crate) fn frozen(freeze: &Freeze) -> Self {
        let (reason, thaw) = match freeze {
            Freeze::Signal => (Self::SIGSTOP, None),
            Freeze::Cgroup(cgroup) => (Self::FROZEN_CGROUP, Some(thaw_command(cgroup))),
        };
        Self { reason: reason.to_owned(), since: None, pid: None, thaw }
    }

    /// Returns whether it keeps QEMU itself from responding.
    pub(crate) fn is_unresponsive(&self) -> bool {
        [Self::MAIN_LOOP, Self::SIGSTOP, Self::FROZEN_CGROUP, Self::OTHER_PID_NAMESPACE].contains(&self.reason.as_str())
    }
}

impl fmt::Display for BusyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.reason.as_str(), &self.since, self.pid) {
            (Self::MAIN_LOOP, ..) => f.write_str("QEMU's main loop is blocked"),
            (Self::FROZEN_CGROUP, ..) => f.write_str("QEMU's cgroup is frozen"),
            (Self::SIGSTOP, ..) => f.write_str("QEMU was stopped by a signal; SIGCONT resumes it"),
            (Self::OTHER_PID_NAMESPACE, ..) => f.write_str("QEMU runs in another PID namespace"),
            (operation, Some(since), Some(pid)) => write!(f, "`{operation}` by process {pid} since {since}"),
            (operation, Some(since), None) => write!(f, "`{operation}` since {since}"),
            (operation, ..) => write!(f, "`{operation}`"),
        }
    }
}

impl From<Holder> for BusyReason {
    fn from(holder: Holder) -> Self {
        Self { reason: holder.operation, since: Some(format!("{:.0}", holder.since)), pid: holder.pid, thaw: None }
    }
}

/// Returns the shell command that thaws a cgroup.
pub(crate) fn thaw_command(cgroup: &FrozenCgroup) -> String {
    format!("echo {} >{}", cgroup.thawed, quote(&cgroup.control.to_string_lossy()))
}

/// The state of a VM, as scripts see it.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VmStatus {
    /// The VM's id.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The host of the VM; with `ls --host` and `--owner`.
    pub host: Option<String>,
    /// The user it belongs to; with `ls --host` and `--owner`.
    pub owner: Option<String>,
    /// Since when its host is away, if it is; with `ls --host` and `--owner`.
    pub host_away_since: Option<Timestamp>,
    /// The state: `defined`, `starting`, `running`, `paused`, `suspended`, `busy`, `stopping`, `stopped`,
    /// `restore-failed`, `io-error`, `panicked`, `unreachable` or `orphaned`.
    pub status: &'static str,
    /// Why it stopped, or why its guest does not run.
    pub reason: Option<StateReason>,
    /// What is known about the reason.
    pub details: Option<Box<StateDetails>>,
    /// What to do about the state, where something is to be done.
    pub hint: Option<String>,
    /// How often the guest reset itself since the start, if it did.
    pub resets: Option<u64>,
    /// How far the clock of the guest is behind, unless it was set since: how long the guest did not run since it booted,
    /// in milliseconds; from a second on.
    pub clock_behind_ms: Option<u64>,
    /// What it is busy with: an operation that holds its lock, or a QEMU that does not respond.
    pub busy: Option<Box<BusyReason>>,
    /// The process id of its QEMU, if that is running and has one here.
    #[serialize_always]
    pub pid: Option<u32>,
    /// `other` if QEMU runs in another PID namespace, and therefore has no process id here.
    pub pid_namespace: Option<&'static str>,
    /// When it was defined.
    pub created_at: Timestamp,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// When it stopped, where that is known.
    pub stopped_at: Option<Timestamp>,
    /// Which start of this VM it was, from 1.
    pub boot: Option<u32>,
    /// The log of the guest's serial console.
    pub serial_log: Option<String>,
    /// What QEMU wrote to its standard error.
    pub qemu_log: Option<String>,
    /// QMP events of this run, one JSON object a line, written by QEMU itself.
    pub qmp_log: Option<String>,
    /// Ports of the host that lead to the guest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forward>,
    /// A QMP socket that maqet leaves to other tools.
    pub external_monitor: Option<String>,
}

impl VmStatus {
    pub(crate) fn new(entry: &VmEntry, observation: &Observation) -> Self {
        let ending = match observation.status {
            Status::Stopped(ending) => Some(ending),
            _ => None,
        };
        let run = entry.run.as_ref();
        let live = run.filter(|_| observation.process.is_some());
        let is_half_loaded = observation.busy.is_none() && is_loading(entry);
        let recover = || "run `maqet doctor --fix` to finish the load, or to take it back".to_owned();
        Self {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            host: None,
            owner: None,
            host_away_since: None,
            status: if is_half_loaded { Status::RestoreFailed } else { observation.status }.as_str(),
            reason: observation.reason(),
            details: (!observation.details.is_empty()).then(|| Box::new(observation.details.clone())),
            hint: is_half_loaded.then(recover).or_else(|| observation.hint(&entry.name)),
            resets: Some(observation.resets).filter(|resets| *resets > 0),
            clock_behind_ms: clock_behind_ms(observation.stopped),
            busy: observation.busy.clone().map(Box::new),
            pid: observation.visible_process().map(|process| process.pid),
            pid_namespace: (observation.process == Some(QemuProcess::Hidden)).then_some("other"),
            created_at: entry.created_at,
            started_at: run.map(|run| run.started_at),
            stopped_at: ending.and_then(|ending| ending.at),
            boot: run.map(|run| run.boot.0),
            serial_log: run.map(|run| shown(&run.paths.serial_log())),
            qemu_log: run.map(|run| shown(&run.paths.qemu_log())),
            qmp_log: run.map(|run| shown(&run.paths.qmp_log())),
            forwards: live.map(|run| run.forwards.clone()).unwrap_or_default(),
            external_monitor: live.map(|run| shown(&run.paths.monitor(MonitorRole::External))),
        }
    }
}

/// Returns the state of a VM of another host, as that host recorded it.
pub(crate) fn recorded(vm: ForeignVm, host_away_since: Option<Timestamp>) -> VmStatus {
    let ForeignVm { host, owner, entry } = vm;
    let observation = match entry.open_run().map(|run| run.phase) {
        Some(Phase::Running) => Observation::without_process(Status::Running),
        Some(Phase::Starting) => Observation::without_process(Status::Starting),
        Some(Phase::Stopping) => Observation::without_process(Status::Stopping),
        Some(Phase::Ended(_)) | None => observe_ended(&entry, None),
    };
    VmStatus { host: Some(host), owner: Some(owner), host_away_since, ..VmStatus::new(&entry, &observation) }
}

/// Returns whether a load of a snapshot was interrupted, unless an operation works on the VM.
///
/// Its guest must not run: QEMU itself does not always say so (7.2, 10.0: not after a start with `-S`).
fn is_loading(entry: &VmEntry) -> bool {
    entry.pending.as_ref().is_some_and(|pending| matches!(pending.work, PendingWork::SnapshotLoad { .. }))
}

/// Returns how far the clock of a guest is behind that did not run for this time; less than a second is not worth telling.
fn clock_behind_ms(stopped: Duration) -> Option<u64> {
    u64::try_from(stopped.as_millis()).ok().filter(|milliseconds| *milliseconds >= 1_000)
}

/// Observes a VM without an open run; `holder` holds its lock.
pub(crate) fn observe_ended(entry: &VmEntry, holder: Option<Holder>) -> Observation {
    let status = Status::from_run(entry.run.as_ref(), ProcessObservation::EXITED, holder.is_some());
    Observation { busy: holder.map(BusyReason::from), ..Observation::without_process(status) }
}

/// Observes VMs; writes nothing.
#[derive(Clone, Copy)]
pub(crate) struct Observer<'a> {
    pub(crate) processes: &'a dyn Processes,
    pub(crate) hypervisor: &'a dyn Hypervisor,
    pub(crate) monitors: &'a dyn Monitors,
    pub(crate) locks: &'a dyn Locks,
    pub(crate) store: &'a dyn Store,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) start_timeout: Duration,
}

impl Observer<'_> {
    /// Observes a VM; also returns its entry, which is newer where another process changed it meanwhile.
    ///
    /// A run is `starting` or `stopping` while an operation holds the lock; without a holder, the operation was killed
    /// or gave up.
    pub(crate) async fn observe(&self, entry: VmEntry) -> (VmEntry, Observation) {
        let holder = self.locks.holder(&LockName::Vm(entry.id)).await;
        let observation = self.observe_with_holder(&entry, holder).await;
        self.confirm_end(entry, observation).await
    }

    /// Observes a VM whose lock the caller holds.
    pub(crate) async fn observe_locked(&self, entry: &VmEntry) -> Observation {
        self.observe_with_holder(entry, None).await
    }

    /// Observes a VM whose lock `holder` holds.
    pub(crate) async fn observe_with_holder(&self, entry: &VmEntry, holder: Option<Holder>) -> Observation {
        let Some(run) = entry.open_run() else { return observe_ended(entry, holder) };
        let process = self.live_process(run).await;
        let report = match &process {
            // The holder is talking to it, and its answer would not change the result.
            Some(_) if holder.is_some() && !matches!(run.phase, Phase::Running) => {
                ProcessReport::new(ProcessObservation::Alive)
            }
            Some(process) => match self.query_monitor(run, process).await {
                ProcessReport { observed: ProcessObservation::Answered(MonitorAnswer::TimedOut), cause, .. }
                    if self.may_come_up(run) =>
                {
                    ProcessReport { cause, ..ProcessReport::new(ProcessObservation::StartingUp) }
                }
                report => report,
            },
            None => self.observe_gone(run).await,
        };
        let status = Status::from_run(Some(run), report.observed, holder.is_some());
        let (halted, details) = match report.observed {
            ProcessObservation::Answered(MonitorAnswer::State(state)) => self.explain_halt(run, state).await,
            _ => (None, report.details),
        };
        let process = process.filter(|_| status.is_live());
        let busy = holder.map(BusyReason::from).or(report.cause);
        Observation { process, busy, halted, details, ..Observation::without_process(status) }
    }

    /// Observes a VM, and finds out what takes longer: how often its guest reset itself, and more about the end of a
    /// run that is recorded.
    pub(crate) async fn observe_closely(&self, entry: VmEntry) -> (VmEntry, Observation) {
        let (entry, observation) = self.observe(entry).await;
        let observation = match &entry.run {
            Some(run) => self.observe_run(run, observation).await,
            None => observation,
        };
        (entry, observation)
    }

    async fn observe_run(&self, run: &Run, observation: Observation) -> Observation {
        if observation.process.is_some() {
            let resets = self.hypervisor.guest_resets(&run.paths).await;
            return self.observe_clock(run, Observation { resets, ..observation }).await;
        }
        match (run.phase, observation.status) {
            (Phase::Ended(_), Status::Stopped(end)) => {
                let report = self.hypervisor.exit_report(run).await;
                let is_same = report.end.is_some_and(|reported| reported.reason == end.reason);
                let details = if is_same { report.details } else { observation.details };
                Observation { details, ..observation }
            }
            (_, _) => observation,
        }
    }

    /// Finds out how long the guest of a live run did not run since it booted.
    pub(crate) async fn observe_clock(&self, run: &Run, observation: Observation) -> Observation {
        let stopped = self.hypervisor.stopped_time(&run.paths).await.until(self.clock.now());
        Observation { stopped, ..observation }
    }

    /// Observes a VM without querying its monitor, which may not respond; `running` then means that the process is
    /// alive.
    pub(crate) async fn observe_process(&self, entry: &VmEntry) -> Observation {
        if let Some(run) = entry.open_run()
            && let Some(process) = self.live_process(run).await
        {
            let status = Status::from_run(Some(run), ProcessObservation::Alive, false);
            return Observation::with_process(status, process);
        }
        self.observe_locked(entry).await
    }

    /// Returns the process of a run, if it is alive; one that was never recorded is searched for.
    ///
    /// The record may be wrong, as in a database restored from a backup, or be from another PID namespace. A process
    /// that is alive must not be taken for dead because of that: its sockets would be removed and a second one started.
    pub(crate) async fn live_process(&self, run: &Run) -> Option<QemuProcess> {
        let visible = match &run.process {
            Some(process) if self.processes.is_alive(process) => Some(process.clone()),
            Some(_) => self.hypervisor.process_in_pid_file(&run.paths).await,
            None => self.hypervisor.find_process(&run.paths).await,
        };
        match visible {
            Some(process) => Some(QemuProcess::Visible(process)),
            None => self.hypervisor.is_hidden(&run.paths).await.then_some(QemuProcess::Hidden),
        }
    }

    /// Returns whether a run started so recently that its QEMU may not be up yet.
    fn may_come_up(&self, run: &Run) -> bool {
        let age = self.clock.now().duration_since(run.started_at);
        run.phase == Phase::Starting && age.unsigned_abs() < self.start_timeout
    }

    /// Queries the monitor of a process that was alive a moment ago, and returns what keeps it from responding.
    async fn query_monitor(&self, run: &Run, process: &QemuProcess) -> ProcessReport {
        let QemuProcess::Visible(process) = process else { return self.query_hidden(run).await };
        let frozen = || {
            let freeze = self.processes.frozen(process)?;
            let observed = ProcessObservation::Answered(MonitorAnswer::Blocked);
            Some(ProcessReport { cause: Some(BusyReason::frozen(&freeze)), ..ProcessReport::new(observed) })
        };
        // The kernel accepts connections for a stopped process, so the query would only time out.
        if let Some(frozen) = frozen() {
            return frozen;
        }
        let answer = self.monitors.answer(&run.paths, limits::QUERY_TIMEOUT).await;
        let answered = ProcessReport::new(ProcessObservation::Answered(answer));
        match answer {
            // It may have been stopped, or have ended, during the query.
            MonitorAnswer::TimedOut | MonitorAnswer::Blocked if let Some(frozen) = frozen() => frozen,
            MonitorAnswer::TimedOut | MonitorAnswer::Blocked if self.has_ended(process).await => {
                self.observe_gone(run).await
            }
            MonitorAnswer::Blocked => ProcessReport { cause: Some(BusyReason::main_loop()), ..answered },
            MonitorAnswer::TimedOut | MonitorAnswer::State(_) => answered,
        }
    }

    /// Does the same for a process that is not visible here: the directory of its sockets may be shared all the same.
    async fn query_hidden(&self, run: &Run) -> ProcessReport {
        let answer = self.monitors.answer(&run.paths, limits::QUERY_TIMEOUT).await;
        let answered = ProcessReport::new(ProcessObservation::Answered(answer));
        match answer {
            MonitorAnswer::State(_) => answered,
            // It may have ended during the query.
            _ if !self.hypervisor.is_hidden(&run.paths).await => self.observe_gone(run).await,
            MonitorAnswer::Blocked => ProcessReport { cause: Some(BusyReason::main_loop()), ..answered },
            MonitorAnswer::TimedOut => ProcessReport { cause: Some(BusyReason::other_pid_namespace()), ..answered },
        }
    }

    /// Returns why the guest of a run does not run, if it does not, and what is known about that.
    async fn explain_halt(&self, run: &Run, state: RunState) -> (Option<HaltReason>, StateDetails) {
        let Some(halted) = HaltReason::from_run_state(state) else { return (None, StateDetails::default()) };
        let (halted, details) = match halted {
            HaltReason::Watchdog
            | HaltReason::GuestPanic
            | HaltReason::NoSpace
            | HaltReason::DiskError
            | HaltReason::InternalError => self.hypervisor.explain_halt(&run.paths, halted).await,
            HaltReason::Request
            | HaltReason::StartedPaused
            | HaltReason::Migrated
            | HaltReason::GuestSuspend
            | HaltReason::GuestShutdown
            | HaltReason::PartialLoad => (halted, StateDetails::default()),
        };
        // The QMP log may be on the disk that is full.
        if halted == HaltReason::DiskError && details.is_empty() {
            let command = QmpCommand::new("query-block");
            let reply = self.monitors.execute(&run.paths, &command, limits::QUERY_TIMEOUT).await;
            if let Some((halted, details)) = reply.ok().and_then(|reply| failed_disk(&reply)) {
                return (Some(halted), details);
            }
        }
        (Some(halted), details)
    }

    /// Returns whether a process is gone; waits for one that is exiting.
    async fn has_ended(&self, process: &ProcessIdentity) -> bool {
        !self.processes.is_alive(process)
            || self.processes.is_exiting(process) && self.processes.wait_for_exit(process, limits::EXIT_GRACE).await
    }

    /// Observes a run whose process is gone.
    async fn observe_gone(&self, run: &Run) -> ProcessReport {
        let report = self.hypervisor.exit_report(run).await;
        let host_rebooted = run.process.as_ref().is_some_and(|process| !self.processes.is_from_this_boot(process));
        let observed = ProcessObservation::Exited { reported: report.end, host_rebooted };
        ProcessReport { details: report.details, ..ProcessReport::new(observed) }
    }
}
