//! Stopping a machine: a ladder, each rung climbed only after the time of the one below was over.

use std::time::Duration;

use futures_util::future::{Either, select};
use maqet_domain::port::Signal;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::{Ending, ProcessIdentity, Run, Status, StopReason, VmName};
use serde::Serialize;

use crate::{App, Error, limits};

/// What it took to stop a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopMethod {
    /// Nothing: it was not running.
    Nothing,
    /// The guest powered off when its power button was pressed.
    PowerDown,
    /// QEMU was told to quit; to the guest that is a power cut.
    Quit,
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
    /// None of ours: while the guest was given time to power off, QEMU ended otherwise, as by somebody's signal.
    Unseen,
}

/// What came of telling a machine to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendOutcome {
    /// It is gone.
    Gone,
    /// It was told, and lives.
    Lives,
    /// It could not be told: its monitor was busy all the time.
    Busy,
    /// Nobody is there to be told.
    VmUnresponsive,
}

impl App {
    /// Stops a machine that lives and returns the rung it took.
    ///
    /// A guest that stands still cannot hear its power button, so it is not given the time for it. A machine whose
    /// main loop is blocked may be writing its disks; it is never killed here, only with force.
    ///
    /// Errors: `StillBusy`, `StillAlive`, and what signalling can fail with.
    pub(crate) async fn shut_down(
        &self,
        vm: &VmName,
        run: &Run,
        process: &ProcessIdentity,
        status: Status,
        power_down: Duration,
    ) -> Result<StopMethod, Error> {
        let stands_still =
            matches!(status, Status::Paused | Status::RestoreFailed | Status::IoError | Status::Panicked);
        if !stands_still && self.tell(run, process, "system_powerdown", power_down).await == SendOutcome::Gone {
            return Ok(StopMethod::PowerDown);
        }
        match self.tell(run, process, "quit", self.timeouts().quit).await {
            SendOutcome::Gone => return Ok(StopMethod::Quit),
            SendOutcome::Busy => {
                self.ensure_responsive(vm, process)?;
                return Err(Error::StillBusy { vm: vm.clone() });
            }
            SendOutcome::Lives | SendOutcome::VmUnresponsive => {}
        }
        self.ports.processes.signal(process, Signal::Term).await?;
        if self.ports.processes.wait_gone(process, self.timeouts().term).await {
            return Ok(StopMethod::Term);
        }
        self.kill(vm, process).await?;
        Ok(StopMethod::Kill)
    }

    /// Kills a machine and sees it gone.
    ///
    /// Errors: `StillAlive`, and what signalling can fail with.
    pub(crate) async fn kill(&self, vm: &VmName, process: &ProcessIdentity) -> Result<(), Error> {
        self.ports.processes.signal(process, Signal::Kill).await?;
        if self.ports.processes.wait_gone(process, self.timeouts().kill).await {
            return Ok(());
        }
        Err(Error::StillAlive { vm: vm.clone(), pid: process.pid })
    }

    /// Sends a command that ends a machine, and waits for its end: `patience` for both.
    async fn tell(&self, run: &Run, process: &ProcessIdentity, command: &str, patience: Duration) -> SendOutcome {
        let gone = self.ports.processes.wait_gone(process, patience);
        let told = std::pin::pin!(self.send(run, command, patience));
        match select(told, gone).await {
            Either::Left((SendOutcome::Lives, gone)) => {
                if gone.await {
                    SendOutcome::Gone
                } else {
                    SendOutcome::Lives
                }
            }
            Either::Left((told, _)) => told,
            Either::Right((true, _)) => SendOutcome::Gone,
            Either::Right((false, _)) => SendOutcome::Busy,
        }
    }

    /// Sends a command as soon as the monitor takes it.
    ///
    /// A machine that ends at once may close the connection before it answers.
    async fn send(&self, run: &Run, command: &str, patience: Duration) -> SendOutcome {
        loop {
            match self.ports.monitors.execute(&run.paths, &QmpCommand::new(command), patience).await {
                Ok(_) | Err(QmpError::ConnectionClosed { .. } | QmpError::TimedOut { .. }) => {
                    return SendOutcome::Lives;
                }
                Err(
                    QmpError::MonitorUnavailable { .. } | QmpError::InvalidResponse { .. } | QmpError::Refused { .. },
                ) => {
                    return SendOutcome::VmUnresponsive;
                }
                // Another client, or a blocked main loop: asked again until the time of the rung is over.
                Err(error) => {
                    tracing::debug!(command, %error, "not taken yet");
                    tokio::time::sleep(limits::ASK_AGAIN).await;
                }
            }
        }
    }

    /// Returns how the run ended, now that its process is gone, and what it really took.
    ///
    /// That a guest powered off is QEMU's to say: one that was killed while its guest was given time ended as well.
    pub(crate) async fn ending(&self, run: &Run, rung: StopMethod) -> (Ending, StopMethod) {
        let now = Some(self.ports.clock.now());
        let told = match rung {
            StopMethod::Kill => return (Ending { reason: StopReason::HostSignal, at: now }, rung),
            StopMethod::Term => StopReason::HostSignal,
            StopMethod::Quit => StopReason::HostQuit,
            StopMethod::PowerDown | StopMethod::Nothing | StopMethod::Unseen => StopReason::Unknown,
        };
        let ending = match self.ports.hypervisor.shutdown_event(&run.paths).await {
            Some(word) => Ending { reason: word.reason, at: Some(word.at) },
            None => Ending { reason: told, at: now },
        };
        let is_by_us = rung != StopMethod::PowerDown || ending.reason == StopReason::GuestShutdown;
        (ending, if is_by_us { rung } else { StopMethod::Unseen })
    }
}
