//! Looking at a VM: what was written down, corrected by what is seen.

use jiff::Timestamp;
use maqet_domain::network::Forward;
use maqet_domain::port::{Holder, LockName};
use maqet_domain::vm::{
    MonitorAnswer, MonitorRole, Phase, ProcessIdentity, ProcessObservation, Run, Status, StopReason, VmEntry,
};
use serde::Serialize;

use crate::app::shown;
use crate::{App, limits};

/// What a look at a VM found.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) status: Status,
    /// Its process, if it lives.
    pub(crate) process: Option<ProcessIdentity>,
    /// What keeps it from answering, or others from changing it.
    pub(crate) occupation: Option<BusyReason>,
}

impl Observation {
    /// A VM of which nothing lives and on which nobody works.
    pub(crate) const fn without_process(status: Status) -> Self {
        Self { status, process: None, occupation: None }
    }
}

/// What a VM is busy with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BusyReason {
    /// The operation that holds its lock, as in `snapshot.create`; else `main-loop` where QEMU's main loop does not
    /// answer, and `sigstop` where its process was stopped by a signal.
    pub with: String,
    /// Since when (RFC 3339, UTC), where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The process that runs the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

impl BusyReason {
    /// The main loop of its QEMU does not answer.
    pub(crate) const MAIN_LOOP: &'static str = "main-loop";

    /// The process of its QEMU was stopped by a signal.
    pub(crate) const SIGSTOP: &'static str = "sigstop";

    pub(crate) fn unknown(with: &str) -> Self {
        Self { with: with.to_owned(), since: None, pid: None }
    }

    /// Returns whether it keeps QEMU itself from answering.
    pub(crate) fn is_unresponsive(&self) -> bool {
        [Self::MAIN_LOOP, Self::SIGSTOP].contains(&self.with.as_str())
    }

    /// Returns it in words, for people.
    pub fn in_words(&self) -> String {
        match (self.with.as_str(), &self.since, self.pid) {
            (Self::MAIN_LOOP, ..) => "QEMU's main loop does not answer".to_owned(),
            (Self::SIGSTOP, ..) => "QEMU was stopped by a signal; SIGCONT lets it go on".to_owned(),
            (operation, Some(since), Some(pid)) => format!("`{operation}` of process {pid} since {since}"),
            (operation, Some(since), None) => format!("`{operation}` since {since}"),
            (operation, ..) => format!("`{operation}`"),
        }
    }
}

impl From<Holder> for BusyReason {
    fn from(holder: Holder) -> Self {
        // A process of another pid namespace is seen by nobody.
        let pid = Some(holder.pid).filter(|pid| *pid != 0);
        Self { with: holder.operation, since: Some(format!("{:.0}", holder.since)), pid }
    }
}

/// The state of a VM, as scripts see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VmStatus {
    /// The VM's id.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The state: `defined`, `starting`, `running`, `paused`, `busy`, `stopping`, `stopped`,
    /// `restore-failed`, `io-error`, `panicked`, `unreachable` or `orphaned`.
    pub status: &'static str,
    /// Why it stopped, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<StopReason>,
    /// What it is busy with, if somebody works on it or it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<BusyReason>,
    /// The process id of its QEMU, while that lives.
    pub pid: Option<u32>,
    /// When it was defined.
    pub created_at: Timestamp,
    /// When it was last started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it stopped, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Timestamp>,
    /// Which start of this VM it was, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<u32>,
    /// The log of the guest's serial console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_log: Option<String>,
    /// What QEMU wrote to its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qemu_log: Option<String>,
    /// QMP events of this run, one JSON object a line, written by QEMU itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_log: Option<String>,
    /// Ports of the host that lead to the guest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<Forward>,
    /// A QMP socket that maqet leaves to other tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_monitor: Option<String>,
}

impl VmStatus {
    pub(crate) fn new(entry: &VmEntry, seen: &Observation) -> Self {
        let ending = match seen.status {
            Status::Stopped(ending) => Some(ending),
            _ => None,
        };
        let run = entry.run.as_ref();
        let live = run.filter(|_| seen.process.is_some());
        Self {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            status: seen.status.as_str(),
            reason: ending.map(|ending| ending.reason),
            busy: seen.occupation.clone(),
            pid: seen.process.as_ref().map(|process| process.pid),
            created_at: entry.created_at,
            started_at: run.map(|run| run.started_at),
            stopped_at: ending.and_then(|ending| ending.at),
            boot: run.map(|run| run.boot.0),
            serial_log: run.map(|run| shown(&run.paths.serial_log())),
            qemu_log: run.map(|run| shown(&run.paths.qemu_log())),
            event_log: run.map(|run| shown(&run.paths.recorder_log())),
            forwards: live.map(|run| run.forwards.clone()).unwrap_or_default(),
            external_monitor: live.map(|run| shown(&run.paths.monitor(MonitorRole::External))),
        }
    }
}

/// Returns the run of a VM of which something may live.
pub(crate) fn unended(entry: &VmEntry) -> Option<&Run> {
    entry.run.as_ref().filter(|run| !matches!(run.phase, Phase::Ended(_)))
}

/// Looks at a VM of which nothing lives, and on which `holder` works.
pub(crate) fn observe_ended(entry: &VmEntry, holder: Option<Holder>) -> Observation {
    let status = Status::from_run(entry.run.as_ref(), ProcessObservation::GONE, holder.is_some());
    Observation { status, process: None, occupation: holder.map(BusyReason::from) }
}

impl App {
    /// Looks at a VM, writing nothing.
    ///
    /// A run is `starting` or `stopping` while somebody works on it; the lock tells that from a work that was killed
    /// or given up.
    pub(crate) async fn observe(&self, entry: &VmEntry) -> Observation {
        let holder = self.ports.locks.holder(&LockName::Vm(entry.id)).await;
        self.observe_with_holder(entry, holder).await
    }

    /// Looks at a VM that nobody else works on: the caller holds the lock.
    pub(crate) async fn observe_locked(&self, entry: &VmEntry) -> Observation {
        self.observe_with_holder(entry, None).await
    }

    /// Looks at a VM on which `holder` works.
    pub(crate) async fn observe_with_holder(&self, entry: &VmEntry, holder: Option<Holder>) -> Observation {
        let Some(run) = unended(entry) else { return observe_ended(entry, holder) };
        let process = self.live_process(run).await;
        let (sight, cause) = match &process {
            // Whoever starts or stops it talks to it now, and what it answers would change nothing.
            Some(_) if holder.is_some() && !matches!(run.phase, Phase::Running) => (ProcessObservation::Lives, None),
            Some(process) => match self.ask_monitor(run, process).await {
                (ProcessObservation::Answered(MonitorAnswer::Silent), cause) if self.may_come_up(run) => {
                    (ProcessObservation::ComingUp, cause)
                }
                answered => answered,
            },
            None => (self.gone(run).await, None),
        };
        let status = Status::from_run(Some(run), sight, holder.is_some());
        let occupation = holder.map(BusyReason::from).or(cause);
        Observation { status, process: process.filter(|_| status.is_live()), occupation }
    }

    /// Returns whether a run was begun so short a time ago that its QEMU may not be up yet.
    fn may_come_up(&self, run: &Run) -> bool {
        let age = self.ports.clock.now().duration_since(run.started_at);
        run.phase == Phase::Starting && age.unsigned_abs() < self.timeouts().start
    }

    /// Looks at a VM without asking its monitor, which may not answer; `running` then means that it lives.
    pub(crate) async fn observe_process(&self, entry: &VmEntry) -> Observation {
        if let Some(run) = unended(entry)
            && let Some(process) = self.live_process(run).await
        {
            let status = Status::from_run(Some(run), ProcessObservation::Lives, false);
            return Observation { status, process: Some(process), occupation: None };
        }
        self.observe_locked(entry).await
    }

    /// Returns the process of a run, if it lives; one that was never written down is looked for.
    ///
    /// What was written down may be wrong, as in a database that was put back from a backup: a machine that lives is not
    /// taken for dead because of it, as its sockets would be removed and a second one started beside it.
    pub(crate) async fn live_process(&self, run: &Run) -> Option<ProcessIdentity> {
        match &run.process {
            Some(process) if self.ports.processes.is_alive(process) => Some(process.clone()),
            Some(_) => self.ports.hypervisor.owner(&run.paths).await,
            None => self.ports.hypervisor.find(&run.paths).await,
        }
    }

    /// Asks the monitor of a process that lived a moment ago; with what keeps it from answering, if anything does.
    async fn ask_monitor(&self, run: &Run, process: &ProcessIdentity) -> (ProcessObservation, Option<BusyReason>) {
        let frozen =
            || (ProcessObservation::Answered(MonitorAnswer::Blocked), Some(BusyReason::unknown(BusyReason::SIGSTOP)));
        // The kernel takes connections for a process that stands still, so its monitor would have to be waited for.
        if self.ports.processes.is_frozen(process) {
            return frozen();
        }
        let answer = self.ports.monitors.answer(&run.paths, limits::RUN_STATE).await;
        match answer {
            // It may have been stopped, or have ended, while it was asked.
            MonitorAnswer::Silent | MonitorAnswer::Blocked if self.ports.processes.is_frozen(process) => frozen(),
            MonitorAnswer::Silent | MonitorAnswer::Blocked if self.has_ended(process).await => {
                (self.gone(run).await, None)
            }
            MonitorAnswer::Blocked => {
                (ProcessObservation::Answered(answer), Some(BusyReason::unknown(BusyReason::MAIN_LOOP)))
            }
            MonitorAnswer::Silent | MonitorAnswer::State(_) => (ProcessObservation::Answered(answer), None),
        }
    }

    /// Returns whether a process is gone; one that is on its way out is waited for.
    async fn has_ended(&self, process: &ProcessIdentity) -> bool {
        let processes = &self.ports.processes;
        !processes.is_alive(process)
            || processes.is_ending(process) && processes.wait_gone(process, limits::LAST_BREATH).await
    }

    /// Returns what is left to see of a run whose process is gone.
    async fn gone(&self, run: &Run) -> ProcessObservation {
        let shutdown_event = self.ports.hypervisor.shutdown_event(&run.paths).await;
        let host_rebooted = run.process.as_ref().is_some_and(|process| !self.ports.processes.is_of_this_boot(process));
        ProcessObservation::Gone { shutdown_event, host_rebooted }
    }
}
