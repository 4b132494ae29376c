//! Stopping a VM, by one method after the other: power-down, quit, SIGTERM, SIGKILL.

use std::time::Duration;

use futures_util::future::{Either, select};
use maqet_domain::port::{Clock, Hypervisor, Monitors, Processes, Signal};
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::{Phase, ProcessIdentity, Run, RunEnd, Status, StopReason, VmName};
use serde::Serialize;

use super::unresponsive::ensure_responsive;
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

/// The outcome of sending a command that ends QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendOutcome {
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
    pub(crate) timeouts: Timeouts,
}

impl Shutdown<'_> {
    /// Stops a VM whose process is alive, and returns the method that worked.
    ///
    /// A guest that does not run cannot react to its power button, so power-down is skipped. A process whose main loop
    /// is blocked may be writing its disks: it is killed only on request (`--force`), never here.
    ///
    /// Errors: [`Error::StopBusy`], [`Error::KillFailed`], and those of signaling.
    pub(crate) async fn shut_down(
        &self,
        vm: &VmName,
        run: &Run,
        process: &ProcessIdentity,
        status: Status,
        power_down: Duration,
    ) -> Result<StopMethod, Error> {
        let is_halted = matches!(status, Status::Paused | Status::RestoreFailed | Status::IoError | Status::Panicked);
        if !is_halted && self.send_and_wait(run, process, "system_powerdown", power_down).await == SendOutcome::Ended {
            return Ok(StopMethod::PowerDown);
        }
        match self.send_and_wait(run, process, "quit", self.timeouts.quit).await {
            SendOutcome::Ended => return Ok(StopMethod::Quit),
            SendOutcome::Busy => {
                ensure_responsive(self.processes, vm, process)?;
                return Err(Error::StopBusy { vm: vm.clone() });
            }
            SendOutcome::Alive | SendOutcome::Unreachable => {}
        }
        self.processes.signal(process, Signal::Term).await?;
        if self.processes.wait_for_exit(process, self.timeouts.term).await {
            return Ok(StopMethod::Sigterm);
        }
        self.kill(vm, process).await?;
        Ok(StopMethod::Sigkill)
    }

    /// Sends SIGKILL, and waits for the end of the process.
    ///
    /// Errors: [`Error::KillFailed`], and those of signaling.
    pub(crate) async fn kill(&self, vm: &VmName, process: &ProcessIdentity) -> Result<(), Error> {
        self.processes.signal(process, Signal::Kill).await?;
        if self.processes.wait_for_exit(process, self.timeouts.kill).await {
            return Ok(());
        }
        Err(Error::KillFailed { vm: vm.clone(), pid: process.pid })
    }

    /// Sends a command that ends QEMU, and waits for its end; `timeout` covers both.
    async fn send_and_wait(
        &self,
        run: &Run,
        process: &ProcessIdentity,
        command: &str,
        timeout: Duration,
    ) -> SendOutcome {
        let ended = self.processes.wait_for_exit(process, timeout);
        let sent = std::pin::pin!(self.send(run, command, timeout));
        match select(sent, ended).await {
            Either::Left((SendOutcome::Alive, ended)) => {
                if ended.await {
                    SendOutcome::Ended
                } else {
                    SendOutcome::Alive
                }
            }
            Either::Left((outcome, _)) => outcome,
            Either::Right((true, _)) => SendOutcome::Ended,
            Either::Right((false, _)) => SendOutcome::Busy,
        }
    }

    /// Sends a command as soon as the monitor accepts it.
    ///
    /// A QEMU that ends at once may close the connection before it answers.
    async fn send(&self, run: &Run, command: &str, timeout: Duration) -> SendOutcome {
        loop {
            match self.monitors.execute(&run.paths, &QmpCommand::new(command), timeout).await {
                Ok(_) | Err(QmpError::ConnectionClosed { .. } | QmpError::TimedOut { .. }) => {
                    return SendOutcome::Alive;
                }
                Err(
                    QmpError::MonitorUnavailable { .. } | QmpError::InvalidResponse { .. } | QmpError::Refused { .. },
                ) => {
                    return SendOutcome::Unreachable;
                }
                // Another client is connected, or the main loop is blocked: retried until the timeout.
                Err(error) => {
                    tracing::debug!(command, %error, "not sent yet");
                    tokio::time::sleep(limits::RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Returns how a run ended whose process is gone, and the method that really ended it.
    ///
    /// Only QEMU's own event proves that a guest powered off: the process may have been killed meanwhile.
    pub(crate) async fn ending(&self, run: &Run, method: StopMethod) -> (RunEnd, StopMethod) {
        let now = Some(self.clock.now());
        let requested = match method {
            StopMethod::Sigkill => return (RunEnd { reason: StopReason::HostSignal, at: now }, method),
            StopMethod::Sigterm => Some(StopReason::HostSignal),
            StopMethod::Quit => Some(StopReason::HostQuit),
            StopMethod::PowerDown | StopMethod::None | StopMethod::Unobserved => None,
        };
        let event = self.hypervisor.shutdown_event(&run.paths).await;
        let ending = match requested {
            Some(reason) if event.is_none() => RunEnd { reason, at: now },
            _ => {
                let end = RunEnd::from_exit(Phase::Stopping, event, false);
                RunEnd { at: end.at.or(now), ..end }
            }
        };
        let is_confirmed = method != StopMethod::PowerDown || ending.reason == StopReason::GuestShutdown;
        (ending, if is_confirmed { method } else { StopMethod::Unobserved })
    }
}
