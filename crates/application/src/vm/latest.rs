//! Observing a VM that another process changes meanwhile.
//!
//! Without the lock of the VM, its record, the holder of the lock and its process are read one after the other.

use maqet_domain::port::{Holder, LockName};
use maqet_domain::vm::{Status, VmEntry};

use super::observe::{Observation, Observer};

impl Observer<'_> {
    /// Observes a VM again whose run an operation may have ended meanwhile: without its record, the kill by a stop
    /// looks like a crash.
    pub(crate) async fn confirm_end(&self, entry: VmEntry, observation: Observation) -> (VmEntry, Observation) {
        let (mut entry, mut observation) = (entry, observation);
        while matches!(observation.status, Status::Stopped(_))
            && observation.busy.is_none()
            && let Some((latest, holder)) = self.newer_state(&entry).await
        {
            observation = self.observe_with_holder(&latest, holder).await;
            entry = latest;
        }
        (entry, observation)
    }

    /// Returns the entry of a VM with an open run, and who holds its lock, if the entry has changed since it was read, or
    /// if an operation holds the lock by now.
    ///
    /// The entry is read after the lock, which a stop holds from before it ends QEMU until that is recorded.
    pub(crate) async fn newer_state(&self, entry: &VmEntry) -> Option<(VmEntry, Option<Holder>)> {
        entry.open_run()?;
        let holder = self.locks.holder(&LockName::Vm(entry.id)).await;
        let latest = self.store.by_id(&entry.id).await.ok()??.entry;
        (holder.is_some() || latest.revision != entry.revision).then_some((latest, holder))
    }
}
