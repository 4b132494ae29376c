//! `console`: attaches to the serial console of a running VM.

use std::fmt;

use maqet_domain::port::{ConsoleError, ConsoleStream};
use maqet_domain::vm::Action;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::vm::observe::BusyReason;
use crate::{App, Error};

/// Attaches to the serial console of a running VM.
///
/// Who runs this is attached for as long as the result lives. Called by name, with JSON, it tells that the console is
/// free and where it is, and is attached to nothing afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Console {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
}

/// A serial console, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConsoleInfo {
    /// The VM's id.
    pub id: String,
    /// The VM's name.
    pub name: String,
    /// Which start of the VM it is, from 1.
    pub boot: u32,
    /// The socket.
    pub socket: String,
    /// The log that all that the guest writes goes to, whoever is attached.
    pub serial_log: String,
    /// What keeps the machine from saying anything, if its process stands still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<BusyReason>,
}

/// A serial console that the caller is attached to.
#[derive(Serialize)]
pub struct AttachedConsole {
    /// What it is.
    #[serde(flatten)]
    pub about: ConsoleInfo,
    /// Its bytes; no data, so left out of JSON.
    #[serde(skip)]
    pub stream: Box<dyn ConsoleStream>,
}

impl fmt::Debug for AttachedConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachedConsole").field("about", &self.about).finish_non_exhaustive()
    }
}

impl Operation for Console {
    const NAME: &'static str = "console";
    const EFFECT: Effect = Effect::Acts;
    type Output = AttachedConsole;

    /// Takes no lock of the VM, which others must be able to stop while somebody sits at its console.
    async fn run(&self, app: &App) -> Result<Done<AttachedConsole>, Error> {
        let vm = app.vm(&self.vm).await?;
        let process = match &vm.entry.run {
            Some(run) => app.live_process(run).await,
            None => None,
        };
        let (Some(run), Some(process)) = (&vm.entry.run, process) else {
            let status = app.observe(&vm.entry).await.status;
            return Err(Error::WrongState { vm: vm.entry.name, status, action: Action::Command });
        };
        // The kernel takes the connection for it, and nobody would know why the guest is silent.
        let busy = app.ensure_responsive(&vm.entry.name, &process).err().map(|deaf| deaf.cause);
        let stream = app.ports.consoles.attach(&run.paths).await.map_err(|source| match source {
            ConsoleError::Missing { socket, elsewhere: None } => {
                let machine = app.machine(&vm).ok();
                let elsewhere = machine.and_then(|machine| machine.serial_elsewhere());
                ConsoleError::Missing { socket, elsewhere }
            }
            other => other,
        });
        let stream = stream.map_err(|source| Error::Console { vm: vm.entry.name.clone(), source })?;
        let about = ConsoleInfo {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            boot: run.boot.0,
            socket: shown(&run.paths.serial_socket()),
            serial_log: shown(&run.paths.serial_log()),
            busy,
        };
        Ok(Done::reading(AttachedConsole { about, stream }))
    }
}
