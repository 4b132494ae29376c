//! Recording what happened unobserved: a run that ended while no maqet process was watching.

use std::time::Duration;

use async_trait::async_trait;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::port::{LockName, Store};
use maqet_domain::vm::{Phase, StateDetails, Status, StopReason, Vm, VmEntry, VmId};
use serde_json::{Value, json};

use super::observe::Observer;
use super::shutdown::StopMethod;
use crate::app::commit::{Committer, run_change};
use crate::event::hook_runner::HookRunner;
use crate::log::keeper::MissedEvents;

/// The name under which this holds the lock of a VM.
const OPERATION: &str = "reconcile";

/// Brings the store in line with what is observed.
#[derive(Clone, Copy)]
pub(crate) struct Reconciler<'a> {
    pub(crate) observer: Observer<'a>,
    pub(crate) store: &'a dyn Store,
    pub(crate) committer: Committer<'a>,
    pub(crate) hooks: HookRunner<'a>,
}

/// Returns the data of the event that a VM stopped.
pub(crate) fn stopped_data(reason: StopReason, method: StopMethod, details: &StateDetails) -> Value {
    let mut data = json!({ "reason": reason, "method": method });
    if !details.is_empty() {
        data["details"] = json!(details);
    }
    data
}

impl Reconciler<'_> {
    /// Records that a VM's run ended unobserved, if it did, and queues missed hooks; the caller holds the VM's lock.
    ///
    /// If that cannot be written the VM is returned unchanged: every observation shows the truth anyway.
    pub(crate) async fn reconcile_locked(&self, vm: Vm) -> Vm {
        self.keep_recording(&vm.entry).await;
        let vm = match self.close_finished_run(&vm.entry).await {
            Some(entry) => Vm { entry, ..vm },
            None => vm,
        };
        self.hooks.catch_up(&vm).await;
        vm
    }

    /// Does the same for a VM whose recorded run is no longer alive, unless another process holds its lock.
    ///
    /// Returns whether an end was recorded.
    pub(crate) async fn reconcile_if_needed(&self, entry: &VmEntry) -> bool {
        self.is_outdated(entry) && self.reconcile(entry).await
    }

    /// Does the same for any VM, unless another process holds its lock.
    ///
    /// Returns whether an end was recorded.
    pub(crate) async fn reconcile(&self, entry: &VmEntry) -> bool {
        let name = LockName::Vm(entry.id);
        let Ok(_guard) = self.observer.locks.lock(&name, OPERATION, Duration::ZERO).await else { return false };
        let Ok(Some(vm)) = self.store.by_id(&entry.id).await else { return false };
        let ended = self.close_finished_run(&vm.entry).await;
        self.hooks.catch_up(&vm).await;
        ended.is_some()
    }

    /// Makes QEMU record its events where a start was killed before it did.
    async fn keep_recording(&self, entry: &VmEntry) {
        if let Some(run) = entry.run.as_ref().filter(|run| run.phase == Phase::Starting)
            && self.observer.live_process(run).await.is_some()
        {
            self.observer.hypervisor.finish_launch(&run.paths).await;
        }
    }

    /// Returns whether the store says that a process runs which does not.
    fn is_outdated(&self, entry: &VmEntry) -> bool {
        let Some(run) = &entry.run else { return false };
        let is_recorded_alive = matches!(run.phase, Phase::Running | Phase::Stopping);
        is_recorded_alive && run.process.as_ref().is_some_and(|process| !self.observer.processes.is_alive(process))
    }

    async fn close_finished_run(&self, entry: &VmEntry) -> Option<VmEntry> {
        let run = entry.run.as_ref().filter(|_| self.is_outdated(entry))?;
        let observation = self.observer.observe_locked(entry).await;
        let Status::Stopped(ending) = observation.status else { return None };
        self.observer.hypervisor.note_exit(run).await;
        self.observer.hypervisor.remove_sockets(&run.paths).await;

        let ended = run.at_phase(Phase::Ended(ending));
        let mut data = stopped_data(ending.reason, StopMethod::Unobserved, &observation.details);
        data["boot"] = json!(run.boot);
        let mut event = self.committer.event(kind::VM_STOPPED, entry, data);
        event.at = ending.at.unwrap_or(event.at);
        let mut changes = ChangeSet::default().and(run_change(entry, Some(ended.clone())));
        changes.events.push(event);
        match self.committer.commit(changes).await {
            Ok(()) => Some(VmEntry { run: Some(ended), revision: entry.revision.next(), ..entry.clone() }),
            Err(error) => {
                tracing::warn!(%error, vm = %entry.name, "could not record that the VM stopped");
                None
            }
        }
    }
}

#[async_trait]
impl MissedEvents for Reconciler<'_> {
    async fn deliver(&self, vm: &VmId) -> bool {
        let locked = self.observer.locks.lock(&LockName::Vm(*vm), OPERATION, Duration::ZERO).await;
        let (Ok(_guard), Ok(Some(vm))) = (locked, self.store.by_id(vm).await) else { return false };
        self.hooks.catch_up(&vm).await;
        true
    }
}
