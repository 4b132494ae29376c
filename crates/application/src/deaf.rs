//! A QEMU that lives and cannot be asked anything.

use maqet_domain::error::{Explain, Fault};
use maqet_domain::vm::{ProcessIdentity, Refused, VmEntry, VmName};

use crate::app::wrong_state;
use crate::look::{Occupation, Seen};
use crate::{App, Error};

/// QEMU lives and does not answer, so that what was asked for was not tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the VM `{vm}` does not answer: {}", cause.in_words())]
pub struct Deaf {
    /// The VM.
    pub vm: VmName,
    /// Its process.
    pub pid: u32,
    /// What keeps it from answering.
    pub cause: Occupation,
}

impl Explain for Deaf {
    fn code(&self) -> &'static str {
        "vm.deaf"
    }

    fn fault(&self) -> Fault {
        Fault::Busy
    }

    fn hints(&self) -> Vec<String> {
        let first = if self.cause.with == Occupation::SIGSTOP {
            format!("let it go on with `kill -CONT {}`", self.pid)
        } else {
            "try again once it is done".to_owned()
        };
        vec![first, format!("or kill it with `maqet stop --force {}`", self.vm)]
    }
}

impl App {
    /// Makes sure that a process was not stopped by a signal: whatever is sent to its monitor would be waited for.
    pub(crate) fn awake(&self, vm: &VmName, process: &ProcessIdentity) -> Result<(), Deaf> {
        if self.ports.processes.is_frozen(process) {
            return Err(Deaf { vm: vm.clone(), pid: process.pid, cause: Occupation::unknown(Occupation::SIGSTOP) });
        }
        Ok(())
    }

    /// Returns what came of asking a process, unless it failed and the process was stopped while it was asked: nothing
    /// else would tell why.
    pub(crate) fn unless_deaf<T, E>(
        &self,
        vm: &VmName,
        process: &ProcessIdentity,
        answer: Result<T, E>,
    ) -> Result<T, Error>
    where
        Error: From<E>,
    {
        if answer.is_err() {
            self.awake(vm, process)?;
        }
        Ok(answer?)
    }
}

/// Returns what keeps the QEMU of a VM that was seen from answering, if anything does.
pub(crate) fn deaf(entry: &VmEntry, seen: &Seen) -> Option<Deaf> {
    let (process, cause) = (seen.process.as_ref()?, seen.occupation.as_ref()?);
    cause.is_qemu_deaf().then(|| Deaf { vm: entry.name.clone(), pid: process.pid, cause: cause.clone() })
}

/// Makes the error for a wish that does not fit the state a VM was seen in; that it does not answer tells more.
pub(crate) fn refusal(entry: &VmEntry, seen: &Seen, refused: Refused) -> Error {
    deaf(entry, seen).map_or_else(|| wrong_state(entry, refused), Error::from)
}
