//! Finding and locking the VM that an operation is about.

use std::time::Duration;

use maqet_domain::port::{ForeignVm, Guard, HeldLock, LockName, Locks, Store};
use maqet_domain::text::similar;
use maqet_domain::vm::{Vm, VmEntry, VmId, VmName};
use maqet_fault_points::{FaultPoint, FaultPoints};

use crate::host::Hosts;
use crate::recovery::recover;
use crate::throw_away::{Lifetime, is_left_over, remove_abandoned};
use crate::vm::orphan::Orphans;
use crate::vm::reconcile::Reconciler;
use crate::{App, Error};

/// How much of a name that is not found is repeated in the error.
const SHOWN_NAME_CHARS: usize = 80;

/// The stored VMs, to be found by name and locked.
#[derive(Clone, Copy)]
pub(crate) struct Vms<'a> {
    pub(super) app: &'a App,
    pub(super) store: &'a dyn Store,
    pub(super) locks: &'a dyn Locks,
    pub(super) orphans: Orphans<'a>,
    pub(super) reconciler: Reconciler<'a>,
    pub(super) faults: &'a FaultPoints,
    pub(super) lock_timeout: Duration,
}

impl Vms<'_> {
    /// Finds a VM by name, id or unique prefix of an id.
    pub(crate) async fn find(&self, name: &str) -> Result<Vm, Error> {
        if let Ok(name) = VmName::parse(name)
            && let Some(vm) = self.store.by_name(&name).await?
        {
            return Ok(vm);
        }
        if VmId::is_prefix(name) {
            let matches = self.store.by_id_prefix(name).await?;
            if let [entry] = matches.as_slice()
                && let Some(vm) = self.store.by_id(&entry.id).await?
            {
                return Ok(vm);
            }
            if matches.len() > 1 {
                let matches = matches.into_iter().map(|entry| entry.name).collect();
                return Err(Error::AmbiguousVm { prefix: name.to_owned(), matches });
            }
        }
        let entries = self.store.list().await?;
        let known: Vec<VmId> = entries.iter().map(|entry| entry.id).collect();
        if let Some(orphan) = self.orphans.find(name, &known).await {
            return Err(Error::Orphaned(Box::new(orphan)));
        }
        if let Some(ForeignVm { host, owner, entry }) = self.find_foreign(name).await? {
            let away_since = Hosts::read(self.store).await.ok().and_then(|hosts| hosts.away_since(&host));
            return Err(Error::ForeignVm { name: entry.name, id: entry.id, host, owner, away_since });
        }
        if let Some(name) = self.find_lost(name).await {
            return Err(Error::LostVm { name });
        }
        let similar = similar(name, entries.iter().map(|entry| entry.name.as_str()));
        Err(Error::NoSuchVm { name: name.chars().take(SHOWN_NAME_CHARS).collect(), similar })
    }

    /// Finds a VM of another user or host by its name or id.
    async fn find_foreign(&self, name: &str) -> Result<Option<ForeignVm>, Error> {
        let is_meant = |vm: &ForeignVm| vm.entry.name.as_str() == name || vm.entry.id.to_string() == name;
        Ok(self.store.foreign().await?.into_iter().find(is_meant))
    }

    /// Finds a VM that the database lost, by its name or ID among the copies.
    async fn find_lost(&self, name: &str) -> Option<VmName> {
        let missing = self.app.ports.maintenance.missing_vms().await.ok()?;
        let is_meant = |entry: &VmEntry| entry.name.as_str() == name || entry.id.to_string() == name;
        missing.into_iter().map(|copy| copy.vm.entry).find(is_meant).map(|entry| entry.name)
    }

    /// Locks a VM for an operation, and reads it again, as it may have changed while this waited.
    ///
    /// Work on its images whose process died is finished or rolled back. One that was to go once it had stopped is gone.
    pub(crate) async fn lock(&self, name: &str, operation: &'static str) -> Result<(Box<dyn Guard>, Vm), Error> {
        let (guard, vm) = self.lock_unrecovered(name, operation, self.lock_timeout).await?;
        if Lifetime::of(&vm) == Lifetime::OfRun && is_left_over(self.app, &vm).await {
            drop(guard);
            Box::pin(remove_abandoned(self.app, &vm.entry.id, operation)).await?;
            return Err(Error::NoSuchVm { name: vm.entry.name.to_string(), similar: Vec::new() });
        }
        let vm = self.recover(vm, &*guard).await?;
        Ok((guard, vm))
    }

    /// Finishes the pending work of a VM that is locked, or rolls it back.
    pub(crate) async fn recover(&self, vm: Vm, guard: &HeldLock) -> Result<Vm, Error> {
        if vm.entry.pending.is_none() {
            return Ok(vm);
        }
        // Rare, and large as a future.
        Box::pin(recover(self.app, vm, guard, false)).await
    }

    /// Recovers work that may have left the guest frozen, which was reset since; what fails is left to the next operation.
    pub(crate) async fn recover_reset(&self, vm: Vm, guard: &HeldLock) {
        let name = vm.entry.name.clone();
        if may_be_frozen(&vm)
            && let Err(error) = Box::pin(recover(self.app, vm, guard, true)).await
        {
            tracing::warn!(vm = %name, %error, "could not recover interrupted work after a reset");
        }
    }

    /// Locks a VM for an operation that a frozen guest must not prevent: as [`lock`](Self::lock), but work that may have
    /// left it frozen stays pending.
    pub(crate) async fn lock_frozen(&self, name: &str, operation: &'static str) -> Result<(Box<dyn Guard>, Vm), Error> {
        let (guard, vm) = self.lock_unrecovered(name, operation, self.lock_timeout).await?;
        let vm = if may_be_frozen(&vm) { vm } else { self.recover(vm, &*guard).await? };
        Ok((guard, vm))
    }

    /// Locks a VM, waiting at most `timeout` for the holder of the lock; leaves pending work as it is, for operations
    /// that do not touch images.
    pub(crate) async fn lock_unrecovered(
        &self,
        name: &str,
        operation: &'static str,
        timeout: Duration,
    ) -> Result<(Box<dyn Guard>, Vm), Error> {
        let vm = self.find(name).await?;
        let lock = LockName::Vm(vm.entry.id);
        let locked = self.locks.lock(&lock, operation, timeout).await;
        let mut guard = locked.map_err(|error| error.about(vm.entry.name.as_str()))?;
        self.faults.reach(FaultPoint::Locked(operation));
        match self.reread(&vm).await {
            Err(gone @ Error::NoSuchVm { .. }) => {
                guard.retire();
                Err(gone)
            }
            read => Ok((guard, self.reconciler.reconcile_locked(read?).await)),
        }
    }

    /// Reads a VM again.
    pub(crate) async fn reread(&self, vm: &Vm) -> Result<Vm, Error> {
        let read = self.store.by_id(&vm.entry.id).await?;
        read.ok_or_else(|| Error::NoSuchVm { name: vm.entry.name.to_string(), similar: Vec::new() })
    }
}

/// Returns whether a process that was killed may have left the guest frozen.
fn may_be_frozen(vm: &Vm) -> bool {
    vm.entry.pending.as_ref().is_some_and(|pending| pending.work.is_quiesced())
}
