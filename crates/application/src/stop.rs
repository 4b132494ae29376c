//! Stopping a machine: a ladder, each rung climbed only after the one below did not do.

use std::time::Duration;

use maqet_domain::port::{QmpCommand, Signal};
use maqet_domain::vm::{Ending, ProcessIdentity, Run, Status, StopReason};
use serde::Serialize;

use crate::{App, Error, limits};

/// What it took to stop a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
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
}

impl App {
    /// Stops a machine that lives and returns the rung it took, or `None` if it lives still.
    ///
    /// A guest that stands still cannot hear its power button, so it is not given the time for it.
    pub(crate) async fn climb_down(
        &self,
        run: &Run,
        process: &ProcessIdentity,
        status: Status,
        power_down: Duration,
    ) -> Result<Option<Rung>, Error> {
        let processes = &self.ports.processes;
        let hears = matches!(status, Status::Running | Status::Stopping | Status::Starting);
        if hears && self.tell(run, "system_powerdown").await && processes.wait_gone(process, power_down).await {
            return Ok(Some(Rung::PowerDown));
        }
        let told = status != Status::Unreachable && self.tell(run, "quit").await;
        if told && processes.wait_gone(process, limits::QUIT).await {
            return Ok(Some(Rung::Quit));
        }
        processes.signal(process, Signal::Term).await?;
        if processes.wait_gone(process, limits::TERM).await {
            return Ok(Some(Rung::Term));
        }
        Ok(self.kill(process).await?.then_some(Rung::Kill))
    }

    /// Kills a machine; returns whether it is gone.
    pub(crate) async fn kill(&self, process: &ProcessIdentity) -> Result<bool, Error> {
        self.ports.processes.signal(process, Signal::Kill).await?;
        Ok(self.ports.processes.wait_gone(process, limits::KILL).await)
    }

    /// Sends a command that needs no result; returns whether it was taken.
    ///
    /// A machine that quits at once may close the connection before it answers.
    async fn tell(&self, run: &Run, command: &str) -> bool {
        use maqet_domain::port::QmpError;

        match self.ports.monitors.execute(&run.places, &QmpCommand::new(command), limits::RUN_STATE).await {
            Ok(_) | Err(QmpError::Closed { .. } | QmpError::TimedOut { .. }) => true,
            Err(error) => {
                tracing::warn!(command, %error, "not taken");
                false
            }
        }
    }

    /// Returns how the run ended, now that its process is gone.
    pub(crate) async fn ending(&self, run: &Run, rung: Rung) -> Ending {
        let now = Some(self.ports.clock.now());
        if rung == Rung::Kill {
            return Ending { reason: StopReason::HostSignal, at: now };
        }
        match self.ports.hypervisor.last_word(&run.places).await {
            Some(word) => Ending { reason: word.reason, at: Some(word.at) },
            None => Ending { reason: StopReason::HostQuit, at: now },
        }
    }
}
