//! Looking at a VM: what was written down, corrected by what is seen.

use maqet_domain::network::Forward;
use maqet_domain::port::LockName;
use maqet_domain::vm::{
    MonitorAnswer, Observation, Phase, ProcessIdentity, Run, RunState, Status, StopReason, VmEntry,
};
use serde::Serialize;

use crate::app::shown;
use crate::{App, limits};

/// What a look at a VM found.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) status: Status,
    /// Its process, if it lives.
    pub(crate) process: Option<ProcessIdentity>,
}

/// The state of a VM, as scripts see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VmStatus {
    /// The VM's id.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// The state: `defined`, `starting`, `running`, `paused`, `busy`, `stopping`, `stopped`,
    /// `restore-failed`, `io-error`, `panicked` or `unreachable`.
    pub status: &'static str,
    /// Why it stopped, if it did: `guest-shutdown`, `host-quit`, `host-signal`, `crashed`, `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The process id of its QEMU, while that lives.
    pub pid: Option<u32>,
    /// When it was defined (RFC 3339, UTC).
    pub created_at: String,
    /// When it was last started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it stopped, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<String>,
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
    pub free_monitor: Option<String>,
}

impl VmStatus {
    pub(crate) fn of(entry: &VmEntry, seen: &Seen) -> Self {
        let ending = match seen.status {
            Status::Stopped(ending) => Some(ending),
            Status::Defined
            | Status::Starting
            | Status::Running
            | Status::Paused
            | Status::Busy
            | Status::Stopping
            | Status::RestoreFailed
            | Status::IoError
            | Status::Panicked
            | Status::Unreachable => None,
        };
        let run = entry.run.as_ref();
        let live = run.filter(|_| seen.process.is_some());
        Self {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            status: seen.status.as_str(),
            reason: ending.map(|ending| ending.reason.as_str()),
            pid: seen.process.as_ref().map(|process| process.pid),
            created_at: entry.created_at.to_string(),
            started_at: run.map(|run| run.started_at.to_string()),
            stopped_at: ending.and_then(|ending| ending.at).map(|at| at.to_string()),
            boot: run.map(|run| run.boot.0),
            serial_log: run.map(|run| shown(&run.places.serial_log())),
            qemu_log: run.map(|run| shown(&run.places.qemu_log())),
            event_log: run.map(|run| shown(&run.places.recorder_log())),
            forwards: live.map(|run| run.forwards.clone()).unwrap_or_default(),
            free_monitor: live.map(|run| shown(&run.places.monitor(maqet_domain::vm::MonitorRole::Foreign))),
        }
    }

    /// Returns why it stopped, for people.
    pub fn reason_in_words(&self) -> Option<&'static str> {
        let reasons = [
            StopReason::GuestShutdown,
            StopReason::HostQuit,
            StopReason::HostSignal,
            StopReason::Crashed,
            StopReason::Unknown,
        ];
        let given = self.reason?;
        reasons.into_iter().find(|reason| reason.as_str() == given).map(StopReason::in_words)
    }
}

impl App {
    /// Looks at a VM, writing nothing.
    ///
    /// A run is `starting` or `stopping` while somebody works on it; the lock tells that from a work that was killed
    /// or given up. The process of a start that was killed is found.
    pub(crate) async fn look(&self, entry: &VmEntry) -> Seen {
        let Some(run) = entry.run.as_ref().filter(|run| matches!(run.phase, Phase::Starting | Phase::Stopping)) else {
            return self.look_alone(entry).await;
        };
        if self.ports.locks.holder(&LockName::Vm(entry.id)).await.is_none() {
            return self.look_alone(entry).await;
        }
        let process = self.live_process(run).await;
        match (run.phase, &process) {
            (Phase::Starting, _) => Seen { status: Status::of(Some(run), Observation::Underway), process },
            (Phase::Stopping | Phase::Running | Phase::Ended(_), Some(_)) => Seen { status: Status::Stopping, process },
            (Phase::Stopping | Phase::Running | Phase::Ended(_), None) => self.look_alone(entry).await,
        }
    }

    /// Looks at a VM that nobody else starts or stops: the caller holds the lock, or nobody does.
    pub(crate) async fn look_alone(&self, entry: &VmEntry) -> Seen {
        let Some(run) = &entry.run else {
            return Seen { status: Status::Defined, process: None };
        };
        if let Phase::Ended(ending) = run.phase {
            return Seen { status: Status::Stopped(ending), process: None };
        }
        if let Some(process) = self.live_process(run).await {
            let answer = self.ports.monitors.answer(&run.places, limits::RUN_STATE).await;
            // It may have ended while it was asked.
            if answer != MonitorAnswer::Silent || self.ports.processes.is_alive(&process) {
                // A stop that was given up is none.
                let given_up = matches!(run.phase, Phase::Stopping).then(|| run.at_phase(Phase::Running));
                let status = Status::of(given_up.as_ref().or(Some(run)), Observation::Alive(answer));
                return Seen { status, process: Some(process) };
            }
        }
        let last_word = self.ports.hypervisor.last_word(&run.places).await;
        Seen { status: Status::of(Some(run), Observation::Gone(last_word)), process: None }
    }

    /// Looks at a VM without asking its monitor, which may not answer; `running` then means that it lives.
    pub(crate) async fn look_at_process(&self, entry: &VmEntry) -> Seen {
        if let Some(run) = &entry.run
            && !matches!(run.phase, Phase::Ended(_))
            && let Some(process) = self.live_process(run).await
        {
            let state = MonitorAnswer::State(RunState::Running);
            return Seen { status: Status::of(Some(run), Observation::Alive(state)), process: Some(process) };
        }
        self.look_alone(entry).await
    }

    /// Returns the process of a run, if it lives; one that was never written down is looked for.
    pub(crate) async fn live_process(&self, run: &Run) -> Option<ProcessIdentity> {
        match &run.process {
            Some(process) => Some(process.clone()).filter(|process| self.ports.processes.is_alive(process)),
            None => self.ports.hypervisor.find(&run.places).await,
        }
    }
}
