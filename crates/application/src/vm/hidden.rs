//! A QEMU process of another PID namespace, which has no process ID here.
//!
//! What goes over its sockets works where their directory is shared: the state, QMP, the console, power-down and quit.
//! Signals do not, and neither does what is read from `/proc`.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use maqet_domain::port::{Freeze, Hypervisor, ProcessError, Processes, Signal};
use maqet_domain::vm::{BootId, PidNamespace, ProcessIdentity, RunPaths};
use tokio::time::Instant;

use crate::limits;

/// The process of a run in another PID namespace, whatever identity it is asked for.
pub(crate) struct HiddenProcess<'a> {
    pub(crate) hypervisor: &'a dyn Hypervisor,
    pub(crate) paths: &'a RunPaths,
}

/// Returns the identity of a process that was never recorded.
pub(crate) const fn unidentified() -> ProcessIdentity {
    let namespace = Some(PidNamespace::UNIDENTIFIED);
    ProcessIdentity { pid: 0, start_ticks: 0, boot_id: BootId(String::new()), namespace }
}

#[async_trait]
impl Processes for HiddenProcess<'_> {
    /// It was alive a moment ago; only [`wait_for_exit`](Self::wait_for_exit) finds out more.
    fn is_alive(&self, _: &ProcessIdentity) -> bool {
        true
    }

    fn frozen(&self, _: &ProcessIdentity) -> Option<Freeze> {
        None
    }

    fn is_exiting(&self, _: &ProcessIdentity) -> bool {
        false
    }

    fn args(&self, _: &ProcessIdentity) -> Vec<String> {
        Vec::new()
    }

    fn is_in_foreground(&self, _: &ProcessIdentity) -> bool {
        false
    }

    fn maps_file(&self, _: &ProcessIdentity, _: &Path) -> bool {
        false
    }

    fn is_from_this_boot(&self, _: &ProcessIdentity) -> bool {
        true
    }

    async fn signal(&self, _: &ProcessIdentity, _: Signal) -> Result<(), ProcessError> {
        Err(ProcessError::OtherNamespace)
    }

    async fn wait_for_exit(&self, _: &ProcessIdentity, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if !self.hypervisor.is_hidden(self.paths).await {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(limits::HIDDEN_PROCESS_INTERVAL).await;
        }
    }
}
