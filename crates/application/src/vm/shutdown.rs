//! Stopping a VM, by one method after the other: power-down, quit, SIGTERM, SIGKILL.

use std::time::Duration;

use futures_util::future::{Either, select};
use maqet_domain::metric::{MetricKey, step};
use maqet_domain::port::{Clock, Freeze, Hypervisor, Monitors, Processes, Signal};
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::{
    ExitReport, Phase, ProcessIdentity, ProcessObservation, Run, RunEnd, StateDetails, Status, StopReason, VmName,
};
use serde::Serialize;
use tokio::time::Instant;

use super::observe::thaw_command;
use super::power_button::{PowerButton, Reaction};
use super::unresponsive::ensure_responsive;
use crate::job::Job;
use crate::metric::meter::Meter;
use crate::{Error, Timeouts, limits};

/// How a VM was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum StopMethod {
    /// It was not running.
    #[strum(to_string = "not running")]
    None,
    /// The guest powered off after the power button was pressed.
    PowerDown,
    /// QEMU quit on request; for the guest that is a power cut.
    Quit,
    /// SIGTERM.
    #[strum(to_string = "SIGTERM")]
    Sigterm,
    /// SIGKILL.
    #[strum(to_string = "SIGKILL")]
    Sigkill,
    /// None of these: QEMU ended otherwise while the guest had time to power off, for example by a signal.
    Unobserved,
}

/// A VM that is to be stopped.
#[derive(Clone, Copy)]
pub(crate) struct StopRequest<'a> {
    /// Canceling it ends the wait for the guest.
    pub(crate) job: &'a Job<'a>,
    pub(crate) vm: &'a VmName,
    pub(crate) run: &'a Run,
    pub(crate) process: &'a ProcessIdentity,
    /// The observed state.
    pub(crate) status: Status,
    /// How long the guest may take to power off.
    pub(crate) power_down: Duration,
}

/// How a VM was stopped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StopOutcome {
    pub(crate) method: StopMethod,
    /// How often the power button was pressed.
    pub(crate) presses: u32,
    /// How long it took.
    pub(crate) waited: Duration,
    /// How long the guest had to power off, if it did not, so that its power was cut.
    pub(crate) power_cut: Option<Duration>,
    /// What the guest did before QEMU was ended, if it had powered off already.
    off: Option<RunEnd>,
}

impl StopOutcome {
    /// The outcome of a method that does not involve the guest.
    pub(crate) const fn without_guest(method: StopMethod, waited: Duration) -> Self {
        Self { method, presses: 0, waited, power_cut: None, off: None }
    }
}

/// The outcome of asking QEMU to quit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuitOutcome {
    /// The process ended.
    Ended,
    /// The command was sent, and the process is alive.
    Alive,
    /// The command could not be sent: the monitor was busy until the timeout.
    Busy,
    /// The monitor does not exist, or does not speak QMP.
    Unreachable,
}

/// Stops QEMU processes.
#[derive(Clone, Copy)]
pub(crate) struct Shutdown<'a> {
    pub(crate) processes: &'a dyn Processes,
    pub(crate) monitors: &'a dyn Monitors,
    pub(crate) hypervisor: &'a dyn Hypervisor,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) meter: &'a Meter,
    pub(crate) timeouts: Timeouts,
}

impl Shutdown<'_> {
    /// Stops a VM whose process is alive.
    ///
    /// A guest that does not run cannot react to its power button, so power-down is skipped. A process whose main loop
    /// is blocked may be writing its disks: it is killed only on request (`--force`), never here.
    ///
    /// Canceling the job ends the wait for the guest; what comes after that is not cut off. Errors:
    /// [`Error::StopInterrupted`], [`Error::StopBusy`], [`Error::KillFailed`], and those of signaling.
    pub(crate) async fn shut_down(&self, request: &StopRequest<'_>) -> Result<StopOutcome, Error> {
        let StopRequest { job, vm, run, process, status, power_down } = *request;
        let began = Instant::now();
        let button = PowerButton::new(*self, run, process);
        let reaction = match job.run(button.power_down(status, power_down, job)).await {
            Ok(reaction) => reaction,
            Err(_) if !self.processes.is_alive(process) => Reaction::Exited,
            Err(_) => return Err(self.interrupted(vm, run, button.presses()).await),
        };
        let presses = button.presses();
        let had = began.elapsed();
        // It had the time that it was given, however late that was noticed.
        let power_cut = (reaction == Reaction::None && presses > 0).then_some(had.min(power_down));
        let (method, off) = match reaction {
            Reaction::Exited => (StopMethod::PowerDown, None),
            Reaction::Off(event) => match self.end(vm, run, process, self.timeouts.quit).await? {
                StopMethod::Quit if presses > 0 => (StopMethod::PowerDown, event),
                method => (method, event),
            },
            Reaction::None => (self.end(vm, run, process, Duration::ZERO).await?, None),
        };
        let outcome = StopOutcome { method, presses, waited: began.elapsed(), power_cut, off };
        self.measure(outcome.method, outcome.waited);
        Ok(outcome)
    }

    /// Records how long a stop took.
    fn measure(&self, method: StopMethod, duration: Duration) {
        let step = match method {
            StopMethod::PowerDown => step::STOP_POWER_DOWN,
            StopMethod::Quit => step::STOP_QUIT,
            StopMethod::Sigterm => step::STOP_SIGTERM,
            StopMethod::Sigkill => step::STOP_SIGKILL,
            StopMethod::None | StopMethod::Unobserved => return,
        };
        self.meter.record(MetricKey::step(step), false, duration);
    }

    /// Returns the error of a stop whose wait for the guest was canceled.
    async fn interrupted(&self, vm: &VmName, run: &Run, presses: u32) -> Error {
        let answer = self.monitors.answer(&run.paths, limits::QUERY_TIMEOUT).await;
        let status = Status::from_run(Some(run), ProcessObservation::Answered(answer), false);
        Error::StopInterrupted { vm: vm.clone(), status, presses }
    }

    /// Ends a QEMU process: quit, then SIGTERM, then SIGKILL.
    ///
    /// `exit` is how long one without a monitor may take to exit without a signal, as after its guest powered off.
    pub(crate) async fn end(
        &self,
        vm: &VmName,
        run: &Run,
        process: &ProcessIdentity,
        exit: Duration,
    ) -> Result<StopMethod, Error> {
        match self.quit(run, process).await {
            QuitOutcome::Ended => return Ok(StopMethod::Quit),
            QuitOutcome::Unreachable if !exit.is_zero() && self.processes.wait_for_exit(process, exit).await => {
                return Ok(StopMethod::Quit);
            }
            QuitOutcome::Busy => {
                ensure_responsive(self.processes, vm, process)?;
                return Err(Error::StopBusy { vm: vm.clone() });
            }
            QuitOutcome::Alive | QuitOutcome::Unreachable => {}
        }
        self.processes.signal(process, Signal::Term).await?;
        if self.processes.wait_for_exit(process, self.timeouts.term).await {
            return Ok(StopMethod::Sigterm);
        }
        self.kill_last(vm, process).await?;
        Ok(StopMethod::Sigkill)
    }

    /// Sends SIGKILL, and waits for the end of the process.
    ///
    /// Errors: [`Error::KillFailed`], and those of signaling.
    pub(crate) async fn kill(&self, vm: &VmName, process: &ProcessIdentity) -> Result<(), Error> {
        let began = Instant::now();
        let killed = self.kill_last(vm, process).await;
        self.meter.record(MetricKey::step(step::STOP_SIGKILL), killed.is_err(), began.elapsed());
        killed
    }

    /// Does the same as the last method of a stop.
    async fn kill_last(&self, vm: &VmName, process: &ProcessIdentity) -> Result<(), Error> {
        self.processes.signal(process, Signal::Kill).await?;
        if self.processes.wait_for_exit(process, self.timeouts.kill).await {
            return Ok(());
        }
        // A cgroup of version 1 keeps even SIGKILL waiting until it is thawed.
        let thaw = match self.processes.frozen(process) {
            Some(Freeze::Cgroup(cgroup)) => Some(thaw_command(&cgroup)),
            Some(Freeze::Signal) | None => None,
        };
        Err(Error::KillFailed { vm: vm.clone(), pid: process.pid, thaw })
    }

    /// Asks QEMU to quit, and waits for its end; the timeout covers both.
    async fn quit(&self, run: &Run, process: &ProcessIdentity) -> QuitOutcome {
        let ended = self.processes.wait_for_exit(process, self.timeouts.quit);
        let sent = std::pin::pin!(self.send_quit(run));
        match select(sent, ended).await {
            Either::Left((QuitOutcome::Alive, ended)) => {
                if ended.await {
                    QuitOutcome::Ended
                } else {
                    QuitOutcome::Alive
                }
            }
            Either::Left((outcome, _)) => outcome,
            Either::Right((true, _)) => QuitOutcome::Ended,
            Either::Right((false, _)) => QuitOutcome::Busy,
        }
    }

    /// Sends `quit` as soon as the monitor accepts it.
    ///
    /// A QEMU that ends at once may close the connection before it answers.
    async fn send_quit(&self, run: &Run) -> QuitOutcome {
        loop {
            match self.monitors.execute(&run.paths, &QmpCommand::new("quit"), self.timeouts.quit).await {
                Ok(_) | Err(QmpError::ConnectionClosed { .. } | QmpError::TimedOut { .. }) => {
                    return QuitOutcome::Alive;
                }
                Err(
                    QmpError::MonitorUnavailable { .. } | QmpError::InvalidResponse { .. } | QmpError::Refused { .. },
                ) => {
                    return QuitOutcome::Unreachable;
                }
                // Another client is connected, or the main loop is blocked: retried until the timeout.
                Err(error) => {
                    tracing::debug!(%error, "`quit` not sent yet");
                    tokio::time::sleep(limits::RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Returns how a run ended whose process is gone, and the method that really ended it.
    ///
    /// Only QEMU's own event proves that a guest powered off: the process may have been killed meanwhile.
    pub(crate) async fn ending(&self, run: &Run, outcome: &StopOutcome) -> (RunEnd, StopMethod, StateDetails) {
        let now = Some(self.clock.now());
        let method = outcome.method;
        if let Some(off) = outcome.off {
            let end = RunEnd::from_exit(Phase::Stopping, Some(off), false);
            return (end, confirmed(method, &end), StateDetails::default());
        }
        let requested = match method {
            StopMethod::Sigkill => {
                let end = RunEnd { reason: StopReason::HostSignal, at: now };
                return (end, method, StateDetails::default());
            }
            StopMethod::Sigterm => Some(StopReason::HostSignal),
            StopMethod::Quit => Some(StopReason::HostQuit),
            StopMethod::PowerDown | StopMethod::None | StopMethod::Unobserved => None,
        };
        let ExitReport { end: reported, details } = self.hypervisor.exit_report(run).await;
        let ending = match requested {
            // An event says more than what was asked for, and that more than other evidence.
            Some(reason) if reported.is_none_or(|end| end.at.is_none()) => RunEnd { reason, at: now },
            _ => {
                let end = RunEnd::from_exit(Phase::Stopping, reported, false);
                RunEnd { at: end.at.or(now), ..end }
            }
        };
        (ending, confirmed(method, &ending), details)
    }
}

/// Returns the method that really ended a run.
const fn confirmed(method: StopMethod, ending: &RunEnd) -> StopMethod {
    match (method, ending.reason) {
        (StopMethod::PowerDown, StopReason::GuestShutdown) => method,
        (StopMethod::PowerDown, _) => StopMethod::Unobserved,
        _ => method,
    }
}
