//! The monitors of a running VM.

use std::pin::pin;
use std::time::Duration;

use maqet_domain::command_line::TPM_CHARDEV;
use maqet_domain::hotplug::{BootDevices, DeviceError, may_start_programs, starts_program};
use maqet_domain::port::{BuildUnavailable, Builds, MonitorSession, Monitors, Processes};
use maqet_domain::qmp::wording::is_disconnected_socket;
use maqet_domain::qmp::{QmpCommand, QmpError, TypeQuery};
use maqet_domain::vm::{ProcessIdentity, QemuProcess, Run, VmEntry};
use serde_json::Value;

use super::observe::BusyReason;
use super::unresponsive::{VmUnresponsive, ensure_responsive};
use crate::{App, Error, limits};

/// A VM whose process is alive and not stopped by a signal; only a command shows whether its monitor answers.
pub(crate) struct Monitored<'a> {
    pub(crate) entry: VmEntry,
    pub(crate) run: Run,
    process: QemuProcess,
    processes: &'a dyn Processes,
    monitors: &'a dyn Monitors,
    builds: &'a dyn Builds,
    /// For each reply.
    pub(crate) timeout: Duration,
}

impl<'a> Monitored<'a> {
    /// Finds a VM and the run that has its monitors.
    ///
    /// Errors: the VM does not exist, has no process, or is stopped by a signal.
    pub(crate) async fn find(app: &'a App, vm: &str) -> Result<Self, Error> {
        let monitored = Self::find_unchecked(app, vm).await?;
        monitored.ensure_responsive()?;
        Ok(monitored)
    }

    /// Does the same without checking whether its process is frozen, which takes longer than most commands;
    /// [`execute_watched`](Self::execute_watched) notices it.
    pub(crate) async fn find_unchecked(app: &'a App, vm: &str) -> Result<Self, Error> {
        let entry = app.vms().find(vm).await?.entry;
        if let Some(monitored) = Self::live_unchecked(app, &entry).await {
            return Ok(monitored);
        }
        let (entry, observation) = app.observer().observe(entry).await;
        Err(Error::not_running(&entry, observation.status))
    }

    /// Returns the monitors of a VM if its process is alive.
    ///
    /// Errors: the process is stopped by a signal.
    pub(crate) async fn live(app: &'a App, entry: &VmEntry) -> Result<Option<Self>, VmUnresponsive> {
        let Some(monitored) = Self::live_unchecked(app, entry).await else { return Ok(None) };
        monitored.ensure_responsive()?;
        Ok(Some(monitored))
    }

    async fn live_unchecked(app: &'a App, entry: &VmEntry) -> Option<Self> {
        let run = entry.run.as_ref()?;
        let process = app.observer().live_process(run).await?;
        Some(Self {
            entry: entry.clone(),
            run: run.clone(),
            process,
            processes: &*app.ports.processes,
            monitors: &*app.ports.monitors,
            builds: &*app.ports.builds,
            timeout: app.timeouts().qmp,
        })
    }

    /// Replaces the timeout for each reply.
    pub(crate) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Runs a command.
    pub(crate) async fn execute(&self, command: &QmpCommand) -> Result<Value, QmpError> {
        self.execute_within(command, self.timeout).await
    }

    /// Runs a command, waiting at most `timeout` for its reply.
    pub(crate) async fn execute_within(&self, command: &QmpCommand, timeout: Duration) -> Result<Value, QmpError> {
        self.monitors.execute(&self.run.paths, command, timeout).await
    }

    /// Does the same for a VM of [`find_unchecked`](Self::find_unchecked): gives up early if its process is frozen, so that
    /// [`or_unresponsive`](Self::or_unresponsive) says so.
    pub(crate) async fn execute_watched(&self, command: &QmpCommand, timeout: Duration) -> Result<Value, QmpError> {
        let mut reply = pin!(self.execute_within(command, timeout));
        match tokio::time::timeout(limits::FREEZE_CHECK_DELAY, &mut reply).await {
            Ok(reply) => reply,
            Err(_) if self.ensure_responsive().is_err() => {
                Err(QmpError::Unresponsive { command: command.execute.clone(), after: limits::FREEZE_CHECK_DELAY })
            }
            Err(_) => reply.await,
        }
    }

    /// Opens a session, which receives events and stays open until dropped.
    pub(crate) async fn session(&self) -> Result<Box<dyn MonitorSession>, QmpError> {
        self.monitors.session(&self.run.paths, self.timeout).await
    }

    /// Checks that the process was not stopped by a signal meanwhile.
    pub(crate) fn ensure_responsive(&self) -> Result<(), VmUnresponsive> {
        match &self.process {
            QemuProcess::Visible(process) => ensure_responsive(self.processes, &self.entry.name, process),
            QemuProcess::Hidden => Ok(()),
        }
    }

    /// Returns the result of a request; if it failed because QEMU's main loop is blocked, or because the process was
    /// stopped by a signal meanwhile, says that instead.
    pub(crate) fn or_unresponsive<T, E>(&self, result: Result<T, E>) -> Result<T, Error>
    where
        Error: From<E>,
    {
        result.map_err(|error| match (self.ensure_responsive(), Error::from(error)) {
            (Err(stopped), _) => stopped.into(),
            (Ok(()), Error::Qmp(QmpError::Unresponsive { .. })) => self.unresponsive(BusyReason::main_loop()).into(),
            (Ok(()), Error::Qmp(QmpError::MonitorUnavailable { .. })) if self.process == QemuProcess::Hidden => {
                self.unresponsive(BusyReason::other_pid_namespace()).into()
            }
            (Ok(()), error) => error,
        })
    }

    fn unresponsive(&self, cause: BusyReason) -> VmUnresponsive {
        let pid = self.process.visible().map(|process| process.pid);
        VmUnresponsive { vm: self.entry.name.clone(), pid, cause }
    }

    /// Returns the output of [`info_usernet`].
    pub(crate) async fn info_usernet(&self) -> Option<String> {
        info_usernet(self.monitors, &self.run).await
    }

    /// Refuses a command for which QEMU would run a program that its sandbox forbids.
    pub(crate) fn refuse_programs(&self, command: &QmpCommand) -> Result<(), Error> {
        if starts_program(command) && !may_start_programs(&self.processes.args(self.visible_process()?)) {
            return Err(DeviceError::SandboxRefused { vm: self.entry.name.clone() }.into());
        }
        Ok(())
    }

    /// Asks the build of its QEMU in a fresh process; `None` if that refuses the query.
    pub(crate) async fn ask_build(&self, query: &TypeQuery) -> Result<Option<Value>, BuildUnavailable> {
        match self.process.visible() {
            Some(process) => self.builds.ask(process, query).await,
            None => Err(BuildUnavailable::Hidden),
        }
    }

    /// Returns the devices the VM was started with.
    ///
    /// Of a process that is not visible here, none are known: `HotplugSession` refuses it.
    pub(crate) fn boot_devices(&self) -> BootDevices {
        let arguments = self.process.visible().map(|process| self.processes.args(process));
        BootDevices::from_args(&arguments.unwrap_or_default())
    }

    /// Returns the process of its QEMU.
    ///
    /// Errors: it is in another PID namespace.
    pub(crate) fn visible_process(&self) -> Result<&ProcessIdentity, Error> {
        self.process.visible().ok_or_else(|| Error::ProcessHidden { vm: self.entry.name.clone(), is_forced: false })
    }
}

impl App {
    /// Opens a session with a running VM's QEMU, which receives its events and stays open until dropped.
    ///
    /// Each VM has two of them for all processes together; while both are in use this waits as long as a QMP command
    /// may take. Commands of a session go to QEMU unchecked.
    pub async fn monitor_session(&self, vm: &str) -> Result<Box<dyn MonitorSession>, Error> {
        let vm = Monitored::find(self, vm).await?;
        vm.or_unresponsive(vm.session().await)
    }
}

/// Returns the output of `info usernet`: only the human monitor describes QEMU's user network (QEMU 7.2).
pub(crate) async fn info_usernet(monitors: &dyn Monitors, run: &Run) -> Option<String> {
    let command = QmpCommand::human_monitor("info usernet");
    match monitors.execute(&run.paths, &command, limits::QUERY_TIMEOUT).await {
        Ok(output) => Some(output.as_str().unwrap_or_default().to_owned()),
        Err(error) => {
            tracing::warn!(%error, "`info usernet` failed");
            None
        }
    }
}

/// What a TPM without swtpm means.
pub(crate) const TPM_LOST: &str = "swtpm has ended: the guest has no TPM until the VM is restarted";

/// Returns what is wrong with the TPM of a running VM; nothing if QEMU does not answer.
pub(crate) async fn tpm_problem(monitors: &dyn Monitors, run: &Run) -> Option<&'static str> {
    let reply = monitors.execute(&run.paths, &QmpCommand::new("query-chardev"), limits::QUERY_TIMEOUT).await.ok()?;
    let tpm = reply.as_array()?.iter().find(|chardev| chardev["label"] == TPM_CHARDEV)?;
    is_disconnected_socket(tpm["filename"].as_str()?).then_some(TPM_LOST)
}
