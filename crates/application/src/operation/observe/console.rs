//! `console`: attaches to the serial console of a running VM.

use std::fmt;
use std::path::Path;

use async_trait::async_trait;
use maqet_domain::port::{ConsoleError, ConsoleStream};
use maqet_domain::vm::RunPaths;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::log::failure::LogFailure;
use crate::log::keeper::LogKeeper;
use crate::vm::ended::{VmEnded, stop_reason};
use crate::vm::observe::BusyReason;
use crate::vm::unresponsive::ensure_responsive;
use crate::{App, Error};

/// Attaches to the serial console of a running VM.
///
/// The caller is attached for as long as the result lives. Called by name, with JSON, it only reports that the console is
/// free, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Console {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
}

/// A serial console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConsoleInfo {
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// The number of the boot, from 1.
    pub boot: u32,
    /// What the input is written to: a FIFO, or the socket of a VM that an older maqet started.
    pub input: String,
    /// The log of everything the guest writes, whether or not a client is attached.
    pub serial_log: String,
    /// Why the output cannot be written to the log, as on a full disk: it is lost, also for the console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_failure: Option<LogFailure>,
    /// Why the guest cannot write anything, if its process is stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<BusyReason>,
}

/// A serial console that the caller is attached to.
#[derive(Serialize)]
#[non_exhaustive]
pub struct AttachedConsole {
    /// The console.
    #[serde(flatten)]
    pub about: ConsoleInfo,
    /// The connection; not part of the JSON.
    #[serde(skip)]
    pub stream: Box<dyn ConsoleStream>,
}

impl fmt::Debug for AttachedConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachedConsole").field("about", &self.about).finish_non_exhaustive()
    }
}

impl AttachedConsole {
    /// Returns the error of a console that QEMU has closed: that the VM has ended, and how, or else that only the console
    /// was closed.
    pub async fn closed(&self, app: &App) -> Error {
        let vm = match app.vms().find(&self.about.id).await {
            Ok(vm) => vm,
            Err(error) => return error,
        };
        let vm_name = vm.entry.name.clone();
        match stop_reason(app, vm.entry.id).await {
            Some(reason) => VmEnded { vm: vm_name, reason, source: None }.into(),
            None => Error::Console { vm: vm_name, source: ConsoleError::Closed },
        }
    }
}

impl Console {
    /// Attaches to the serial console of `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into() }
    }
}

impl Operation for Console {
    const NAME: &'static str = "console";
    const EFFECT: Effect = Effect::Acts;
    type Output = AttachedConsole;

    /// Does not lock the VM, which must be stoppable while a client is attached.
    async fn run(&self, app: &App) -> Result<Done<AttachedConsole>, Error> {
        let vm = app.vms().find(&self.vm).await?;
        let process = match &vm.entry.run {
            Some(run) => app.observer().live_process(run).await,
            None => None,
        };
        let (Some(run), Some(process)) = (&vm.entry.run, process) else {
            let status = app.observer().observe(vm.entry.clone()).await.1.status;
            return Err(Error::not_running(&vm.entry, status));
        };
        // The kernel accepts the connection for a stopped process, whose silence needs an explanation.
        let unresponsive = process
            .visible()
            .and_then(|process| ensure_responsive(&*app.ports.processes, &vm.entry.name, process).err());
        let busy = unresponsive.map(|unresponsive| unresponsive.cause);
        let stream = app.ports.consoles.attach(&run.paths).await.map_err(|source| match source {
            ConsoleError::Unavailable { path, serial: None } => {
                let serial = app.machine(&vm).ok().and_then(|machine| machine.serial_redirection());
                ConsoleError::Unavailable { path, serial }
            }
            other => other,
        });
        let stream = stream.map_err(|source| Error::Console { vm: vm.entry.name.clone(), source })?;
        let keeper = LogKeeper::new(app);
        let log_failure = keeper.serial_failure(&run.paths).await.filter(|_| stream.log_position().is_some());
        let stream = Box::new(BoundedConsole { stream, keeper, paths: run.paths.clone() });
        let about = ConsoleInfo {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            boot: run.boot.0,
            input: shown(stream.input()),
            serial_log: shown(&run.paths.serial_log()),
            log_failure,
            busy,
        };
        Ok(Done::reading(AttachedConsole { about, stream }))
    }
}

/// A console that bounds the logs of its VM while it is read: a guest may flood it.
struct BoundedConsole {
    stream: Box<dyn ConsoleStream>,
    keeper: LogKeeper,
    paths: RunPaths,
}

#[async_trait]
impl ConsoleStream for BoundedConsole {
    fn input(&self) -> &Path {
        self.stream.input()
    }

    fn log_position(&self) -> Option<u64> {
        self.stream.log_position()
    }

    async fn read(&self) -> Result<Vec<u8>, ConsoleError> {
        // First, so that no output is lost if the read is canceled.
        self.keeper.keep_output_periodically(&self.paths).await;
        self.stream.read().await
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        self.stream.write(bytes).await
    }

    fn end(&self) {
        self.stream.end();
    }
}
