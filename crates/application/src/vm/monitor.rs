//! Which run of a VM has monitors to talk to, and sessions with them.

use maqet_domain::port::MonitorSession;
use maqet_domain::qmp::QmpCommand;
use maqet_domain::vm::{Action, ProcessIdentity, Run, VmEntry};

use crate::{App, Error, limits};

/// A VM whose process lives and is not stopped by a signal: QEMU itself says best whether it can answer.
pub(crate) struct Monitored {
    pub(crate) entry: VmEntry,
    pub(crate) run: Run,
    pub(crate) process: ProcessIdentity,
}

impl App {
    /// Finds a VM and the run that has its monitors.
    ///
    /// Errors: no such VM, no process of it lives, or it stands still.
    pub(crate) async fn monitored(&self, given: &str) -> Result<Monitored, Error> {
        let entry = self.vm(given).await?.entry;
        if let Some(run) = entry.run.clone()
            && let Some(process) = self.live_process(&run).await
        {
            self.ensure_responsive(&entry.name, &process)?;
            return Ok(Monitored { entry, run, process });
        }
        let status = self.observe(&entry).await.status;
        Err(Error::WrongState { vm: entry.name, status, action: Action::Command })
    }

    /// Opens a session with a running VM's QEMU, which hears its events and stays until it is dropped.
    ///
    /// There are two for each VM, for all processes together; while both are taken this waits as long as a QMP command
    /// may take. Commands of it go to QEMU as they are.
    pub async fn monitor_session(&self, vm: &str) -> Result<Box<dyn MonitorSession>, Error> {
        let run = self.monitored(vm).await?.run;
        Ok(self.ports.monitors.session(&run.paths, self.timeouts().qmp).await?)
    }

    /// Returns what QEMU's user network tells of itself; only the human monitor does (7.2).
    pub(crate) async fn usernet(&self, run: &Run) -> Option<String> {
        let command = QmpCommand::human_monitor("info usernet");
        match self.ports.monitors.execute(&run.paths, &command, limits::RUN_STATE).await {
            Ok(shown) => Some(shown.as_str().unwrap_or_default().to_owned()),
            Err(error) => {
                tracing::warn!(%error, "QEMU's user network could not be asked");
                None
            }
        }
    }
}
