//! A VM that ended while an operation used it.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::port::{LockName, Processes};
use maqet_domain::vm::{QemuProcess, Status, StopReason, VmId, VmName};
use tokio::time::{Instant, sleep};

use super::hidden::{HiddenProcess, unidentified};
use crate::{App, Error, limits};

/// A VM ended before an operation was done with it.
#[derive(Debug, thiserror::Error)]
#[error("VM `{vm}` has stopped: {reason}")]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct VmEnded {
    pub vm: VmName,
    pub reason: StopReason,
    /// What the operation noticed, if that was an error.
    pub source: Option<Box<Error>>,
}

impl Explain for VmEnded {
    fn explain(&self) -> Explanation {
        let vm = &self.vm;
        let explanation = Explanation::new("vm.run-interrupted", Fault::State);
        let explanation = match self.reason {
            StopReason::Crashed | StopReason::QemuError | StopReason::Unknown => {
                explanation.hint(format!("check the messages of QEMU with `maqet logs {vm} --qemu`"))
            }
            _ => explanation.hint(format!("check its events with `maqet events {vm}`")),
        };
        explanation.hint(format!("start it with `maqet start {vm}`"))
    }
}

/// Returns why the run of a VM has ended, unless it is still running.
///
/// Waits a moment for a QEMU that has closed its sockets and is exiting, and for the operation that stops it, which knows
/// the reason.
pub(crate) async fn stop_reason(app: &App, id: VmId) -> Option<StopReason> {
    let observer = app.observer();
    let deadline = Instant::now() + limits::EXIT_GRACE;
    loop {
        let entry = app.ports.store.by_id(&id).await.ok()??.entry;
        if let Some(run) = entry.open_run()
            && let Some(process) = observer.live_process(run).await
        {
            let left = deadline.saturating_duration_since(Instant::now());
            let has_exited = match &process {
                QemuProcess::Visible(process) => observer.processes.wait_for_exit(process, left).await,
                QemuProcess::Hidden => {
                    let hidden = HiddenProcess { hypervisor: observer.hypervisor, paths: &run.paths };
                    hidden.wait_for_exit(&unidentified(), left).await
                }
            };
            if !has_exited {
                return None;
            }
        }
        if entry.open_run().is_some()
            && observer.locks.holder(&LockName::Vm(id)).await.is_some()
            && Instant::now() < deadline
        {
            sleep(limits::RETRY_INTERVAL).await;
            continue;
        }
        let observation = observer.observe_locked(&entry).await;
        // An operation may have ended the run and released the lock since the entry was read.
        if Instant::now() < deadline && observer.newer_state(&entry).await.is_some() {
            continue;
        }
        return match observation.status {
            Status::Stopped(end) => Some(end.reason),
            _ => None,
        };
    }
}

/// Returns the error of an operation on `vm`; that the VM ended meanwhile, and how, if that is why it failed.
pub(crate) async fn or_ended(app: &App, vm: &str, error: Error) -> Error {
    if !error.is_connection_loss() {
        return error;
    }
    let Ok(vm) = app.vms().find(vm).await else { return error };
    match stop_reason(app, vm.entry.id).await {
        Some(reason) => VmEnded { vm: vm.entry.name, reason, source: Some(Box::new(error)) }.into(),
        None => error,
    }
}
