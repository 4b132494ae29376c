//! Writing down what happened while nobody looked.

use std::time::Duration;

use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::port::LockName;
use maqet_domain::vm::{Phase, Status, Vm, VmEntry};
use serde_json::json;

use crate::App;
use crate::app::run_change;

/// What `how` says of an end that nobody of us brought about.
const UNSEEN: &str = "unseen";

impl App {
    /// Writes down that a machine ended unseen, if it did; the caller holds its lock.
    ///
    /// Where that cannot be written the VM is returned as it was: whoever looks at it sees the truth all the same.
    pub(crate) async fn reconciled(&self, vm: Vm) -> Vm {
        self.keep_recording(&vm.entry).await;
        match self.close_finished_run(&vm.entry).await {
            Some(entry) => Vm { entry, ..vm },
            None => vm,
        }
    }

    /// Sees to it that QEMU's events are recorded where a start was killed half-way; the caller holds the lock, so that
    /// nobody starts it now.
    async fn keep_recording(&self, entry: &VmEntry) {
        if let Some(run) = entry.run.as_ref().filter(|run| run.phase == Phase::Starting)
            && self.live_process(run).await.is_some()
        {
            self.ports.hypervisor.record(&run.paths).await;
        }
    }

    /// The same for a VM whose lock nobody holds, or somebody: then it is that one's business.
    ///
    /// Returns whether something was written.
    pub(crate) async fn reconcile_if_needed(&self, entry: &VmEntry) -> bool {
        self.is_unsettled(entry) && self.reconcile(entry).await
    }

    /// Writes down what happened to a VM unseen, and has its hooks told, unless somebody else works on it.
    ///
    /// Returns whether an end was written.
    pub(crate) async fn reconcile(&self, entry: &VmEntry) -> bool {
        let name = LockName::Vm(entry.id);
        let Ok(_guard) = self.ports.locks.lock(&name, "settle", Duration::ZERO).await else { return false };
        let Ok(Some(vm)) = self.ports.store.by_id(&entry.id).await else { return false };
        let ended = self.close_finished_run(&vm.entry).await;
        self.catch_up_hooks(&vm).await;
        ended.is_some()
    }

    /// Returns whether the record says that a process lives which does not.
    fn is_unsettled(&self, entry: &VmEntry) -> bool {
        let Some(run) = &entry.run else { return false };
        let claims_life = matches!(run.phase, Phase::Running | Phase::Stopping);
        claims_life && run.process.as_ref().is_some_and(|process| !self.ports.processes.is_alive(process))
    }

    async fn close_finished_run(&self, entry: &VmEntry) -> Option<VmEntry> {
        let run = entry.run.as_ref().filter(|_| self.is_unsettled(entry))?;
        let Status::Stopped(ending) = self.observe_locked(entry).await.status else { return None };
        self.ports.hypervisor.clear(&run.paths).await;

        let ended = run.at_phase(Phase::Ended(ending));
        let data = json!({ "reason": ending.reason, "how": UNSEEN, "boot": run.boot });
        let mut event = self.event(kind::VM_STOPPED, entry, data);
        event.at = ending.at.unwrap_or(event.at);
        let mut changes = ChangeSet::default().and(run_change(entry, Some(ended.clone())));
        changes.events.push(event);
        match self.commit(changes).await {
            Ok(()) => Some(VmEntry { run: Some(ended), revision: entry.revision.next(), ..entry.clone() }),
            Err(error) => {
                tracing::warn!(%error, vm = %entry.name, "could not write down that the VM ended");
                None
            }
        }
    }
}
