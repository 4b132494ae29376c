//! Guests that do not run: what to say about them, and the change of a power state that did not last.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::vm::{Action, HaltReason, StateReason, VmEntry, VmName};

use super::observe::Observation;

/// A change of the power state of a VM that QEMU accepted, and after which the VM is in another state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("VM `{vm}` is {state} after `{action}`")]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct PowerChangeFailed {
    pub vm: VmName,
    pub action: Action,
    /// Its state, with the reason for it.
    pub state: String,
    /// Why its guest does not run.
    pub halted: Option<HaltReason>,
}

impl Explain for PowerChangeFailed {
    fn explain(&self) -> Explanation {
        let code = match self.action {
            Action::Pause => "vm.pause-failed",
            Action::Reset => "vm.reset-failed",
            Action::Start | Action::Stop | Action::Remove | Action::ChangeDisks | Action::Command | Action::Resume => {
                "vm.resume-failed"
            }
        };
        let explanation = Explanation::new(code, Fault::Failed);
        match self.halted.and_then(|halted| halt_hint(halted, &self.vm)) {
            Some(hint) => explanation.hint(hint),
            None => explanation.hint(format!("check its state with `maqet status {}`", self.vm)),
        }
    }
}

impl Observation {
    /// Makes the error of an `action` after which the VM is in this state.
    pub(crate) fn power_change_failed(&self, entry: &VmEntry, action: Action) -> PowerChangeFailed {
        PowerChangeFailed { vm: entry.name.clone(), action, state: self.described(), halted: self.halted }
    }

    /// Returns the state with the reason for it, as in "io-error (no space left for a disk: drive `data`, write)".
    pub(crate) fn described(&self) -> String {
        match self.reason() {
            None => self.status.to_string(),
            Some(reason) if self.details.is_empty() => format!("{} ({reason})", self.status),
            Some(reason) => format!("{} ({reason}: {})", self.status, self.details),
        }
    }

    /// Returns what a user can do about the state, where something is to be done.
    pub(crate) fn hint(&self, vm: &VmName) -> Option<String> {
        match self.reason()? {
            StateReason::Halted(halted) => halt_hint(halted, vm),
            StateReason::Ended(_) => None,
        }
    }
}

/// Returns what a user can do about a guest that does not run.
pub(crate) fn halt_hint(halted: HaltReason, vm: &VmName) -> Option<String> {
    match halted {
        HaltReason::NoSpace => Some(format!("free space on the host, then run `maqet resume {vm}`; nothing is lost")),
        HaltReason::DiskError => {
            Some(format!("repair the disk, then run `maqet resume {vm}`: the guest's access is repeated"))
        }
        HaltReason::Watchdog => Some(format!("check the guest, then run `maqet resume {vm}` or `maqet reset {vm}`")),
        HaltReason::GuestSuspend => Some(format!("wake it with `maqet resume {vm}`")),
        HaltReason::GuestShutdown => Some(format!("end QEMU with `maqet stop {vm}`")),
        HaltReason::GuestPanic | HaltReason::InternalError => Some(format!("reset it with `maqet reset {vm}`")),
        HaltReason::PartialLoad => Some(format!("stop it with `maqet stop --force {vm}`")),
        HaltReason::Request | HaltReason::StartedPaused | HaltReason::Migrated => None,
    }
}
