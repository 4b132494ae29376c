//! A QEMU process that is alive and does not answer.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::port::Processes;
use maqet_domain::qmp::QmpError;
use maqet_domain::vm::{Action, ProcessIdentity, Transition, VmEntry, VmName};

use super::observe::{BusyReason, Observation};
use crate::{App, Error};

/// QEMU is running and not responding, so the request was not tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("VM `{vm}` is not responding: {cause}")]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct VmUnresponsive {
    pub vm: VmName,
    /// QEMU's process; `None` if it has no ID here.
    pub pid: Option<u32>,
    pub cause: BusyReason,
}

impl Explain for VmUnresponsive {
    fn explain(&self) -> Explanation {
        let explanation = Explanation::new("vm.unresponsive", Fault::Busy);
        let explanation = match (self.cause.reason.as_str(), self.pid, &self.cause.thaw) {
            (BusyReason::SIGSTOP, Some(pid), _) => explanation.hint(format!("resume it with `kill -CONT {pid}`")),
            (BusyReason::OTHER_PID_NAMESPACE, ..) => {
                return explanation.hint("run maqet in the container or PID namespace in which the VM was started");
            }
            (_, _, Some(thaw)) => explanation.hint(format!("thaw it with `{thaw}`")),
            (_, _, None) => explanation.hint("try again later"),
        };
        explanation.hint(format!("kill it with `maqet stop --force {}`", self.vm))
    }
}

/// Checks that a process is not frozen: its monitor would accept a connection and never answer.
pub(crate) fn ensure_responsive(
    processes: &dyn Processes,
    vm: &VmName,
    process: &ProcessIdentity,
) -> Result<(), VmUnresponsive> {
    match processes.frozen(process) {
        Some(freeze) => {
            let cause = BusyReason::frozen(&freeze);
            Err(VmUnresponsive { vm: vm.clone(), pid: Some(process.pid), cause })
        }
        None => Ok(()),
    }
}

/// Returns why a request to a VM failed: if QEMU did not reply, what keeps it from that.
///
/// For requests that take milliseconds, so that no reply means that the main loop was blocked, or QEMU frozen, meanwhile.
pub(crate) async fn explain_unresponsive(app: &App, vm: &str, error: Error) -> Error {
    let Error::Qmp(QmpError::Unresponsive { .. } | QmpError::TimedOut { .. }) = error else { return error };
    let Ok(vm) = app.vms().find(vm).await else { return error };
    let observation = app.observer().observe_locked(&vm.entry).await;
    observation.unresponsive(&vm.entry).map_or(error, Error::from)
}

impl Observation {
    /// Returns the error of an observed VM whose QEMU does not respond.
    pub(crate) fn unresponsive(&self, entry: &VmEntry) -> Option<VmUnresponsive> {
        self.process.as_ref()?;
        let cause = self.busy.as_ref().filter(|busy| busy.is_unresponsive())?;
        Some(VmUnresponsive {
            vm: entry.name.clone(),
            pid: self.visible_process().map(|process| process.pid),
            cause: cause.clone(),
        })
    }

    /// Returns what `action` does to a VM in the observed state.
    ///
    /// Errors: the state does not allow it; that QEMU does not respond says more.
    pub(crate) fn transition(&self, entry: &VmEntry, action: Action) -> Result<Transition, Error> {
        let refused = |invalid| match self.unresponsive(entry) {
            Some(unresponsive) => Error::from(unresponsive),
            None => Error::wrong_state(entry, invalid).halted_by(self.halted),
        };
        self.status.transition(action).map_err(refused)
    }
}
