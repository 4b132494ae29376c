//! A QEMU that lives and cannot be asked anything.

use maqet_domain::error::{Explain, Fault};
use maqet_domain::vm::{InvalidTransition, ProcessIdentity, VmEntry, VmName};

use crate::app::wrong_state;
use crate::vm::observe::{BusyReason, Observation};
use crate::{App, Error};

/// QEMU lives and does not answer, so that what was asked for was not tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the VM `{vm}` does not answer: {}", cause.in_words())]
pub struct VmUnresponsive {
    /// The VM.
    pub vm: VmName,
    /// Its process.
    pub pid: u32,
    /// What keeps it from answering.
    pub cause: BusyReason,
}

impl Explain for VmUnresponsive {
    fn code(&self) -> &'static str {
        "vm.deaf"
    }

    fn fault(&self) -> Fault {
        Fault::Busy
    }

    fn hints(&self) -> Vec<String> {
        let first = if self.cause.with == BusyReason::SIGSTOP {
            format!("let it go on with `kill -CONT {}`", self.pid)
        } else {
            "try again once it is done".to_owned()
        };
        vec![first, format!("or kill it with `maqet stop --force {}`", self.vm)]
    }
}

impl App {
    /// Makes sure that a process was not stopped by a signal: whatever is sent to its monitor would be waited for.
    pub(crate) fn ensure_responsive(&self, vm: &VmName, process: &ProcessIdentity) -> Result<(), VmUnresponsive> {
        if self.ports.processes.is_frozen(process) {
            return Err(VmUnresponsive {
                vm: vm.clone(),
                pid: process.pid,
                cause: BusyReason::unknown(BusyReason::SIGSTOP),
            });
        }
        Ok(())
    }

    /// Returns what came of asking a process, unless it failed and the process was stopped while it was asked: nothing
    /// else would tell why.
    pub(crate) fn or_unresponsive<T, E>(
        &self,
        vm: &VmName,
        process: &ProcessIdentity,
        answer: Result<T, E>,
    ) -> Result<T, Error>
    where
        Error: From<E>,
    {
        if answer.is_err() {
            self.ensure_responsive(vm, process)?;
        }
        Ok(answer?)
    }
}

/// Returns what keeps the QEMU of a VM that was seen from answering, if anything does.
pub(crate) fn deaf(entry: &VmEntry, seen: &Observation) -> Option<VmUnresponsive> {
    let (process, cause) = (seen.process.as_ref()?, seen.occupation.as_ref()?);
    cause.is_unresponsive().then(|| VmUnresponsive { vm: entry.name.clone(), pid: process.pid, cause: cause.clone() })
}

/// Makes the error for a wish that does not fit the state a VM was seen in; that it does not answer tells more.
pub(crate) fn refusal(entry: &VmEntry, seen: &Observation, refused: InvalidTransition) -> Error {
    deaf(entry, seen).map_or_else(|| wrong_state(entry, refused), Error::from)
}
