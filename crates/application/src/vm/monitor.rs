//! The monitors of a running VM.

use maqet_domain::port::MonitorSession;
use maqet_domain::qmp::QmpCommand;
use maqet_domain::vm::{Action, ProcessIdentity, Run, VmEntry};

use super::unresponsive::ensure_responsive;
use crate::{App, Error, limits};

/// A VM whose process is alive and not stopped by a signal; whether its monitor answers, only QEMU can tell.
pub(crate) struct Monitored {
    pub(crate) entry: VmEntry,
    pub(crate) run: Run,
    pub(crate) process: ProcessIdentity,
}

impl App {
    /// Finds a VM and the run that has its monitors.
    ///
    /// Errors: the VM does not exist, has no process, or is stopped by a signal.
    pub(crate) async fn monitored(&self, name: &str) -> Result<Monitored, Error> {
        let entry = self.vm(name).await?.entry;
        let observer = self.observer();
        if let Some(run) = entry.run.clone()
            && let Some(process) = observer.live_process(&run).await
        {
            ensure_responsive(observer.processes, &entry.name, &process)?;
            return Ok(Monitored { entry, run, process });
        }
        let status = observer.observe(&entry).await.status;
        Err(Error::WrongState { vm: entry.name, status, action: Action::Command })
    }

    /// Opens a session with a running VM's QEMU, which receives its events and stays open until dropped.
    ///
    /// Each VM has two of them for all processes together; while both are in use this waits as long as a QMP command
    /// may take. Commands of a session go to QEMU unchecked.
    pub async fn monitor_session(&self, vm: &str) -> Result<Box<dyn MonitorSession>, Error> {
        let run = self.monitored(vm).await?.run;
        Ok(self.ports.monitors.session(&run.paths, self.timeouts().qmp).await?)
    }
}

/// Returns the output of `info usernet`: only the human monitor describes QEMU's user network (QEMU 7.2).
pub(crate) async fn info_usernet(app: &App, run: &Run) -> Option<String> {
    let command = QmpCommand::human_monitor("info usernet");
    match app.ports.monitors.execute(&run.paths, &command, limits::RUN_STATE_TIMEOUT).await {
        Ok(output) => Some(output.as_str().unwrap_or_default().to_owned()),
        Err(error) => {
            tracing::warn!(%error, "`info usernet` failed");
            None
        }
    }
}
