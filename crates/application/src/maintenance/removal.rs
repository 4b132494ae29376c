//! Removing what nobody needs any more, under the lock of the VM it was of.
//!
//! Between the survey and the removal the VM may be started, also under the number of a start that failed, or taken
//! back: then the same path is needed.

use std::time::Duration;

use maqet_domain::port::{LockError, LockName, RemoveError, StaleFile, StaleFileKind, StoreError};
use maqet_domain::vm::{BootNumber, Phase, RunPaths, VmEntry, VmId};

use crate::App;

/// What the lock of a VM is taken for.
const REMOVAL: &str = "cleanup";

/// Why something was not removed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) enum RemovalError {
    /// It stays.
    Stays(#[from] RemoveError),
    /// Locking does not work.
    Lock(#[from] LockError),
    /// It is not known whether it is needed.
    Store(#[from] StoreError),
}

impl App {
    /// Removes what a trace is of, if it is still needed by nobody; `entries` are the VMs as they were surveyed.
    ///
    /// Returns whether it was; what belongs to a VM that somebody works on is left to another time.
    pub(crate) async fn remove_leftover(&self, trace: &StaleFile, entries: &[VmEntry]) -> Result<bool, RemovalError> {
        let of_folder = |short: &str| entries.iter().find(|entry| entry.id.short() == short).map(|entry| entry.id);
        let id = match &trace.kind {
            StaleFileKind::Sockets { short, .. } => of_folder(short),
            StaleFileKind::Records { id, .. } => Some(*id),
            // A lock is removed while it is held, and an unfinished file is known by its dead maker.
            StaleFileKind::Lock { .. } | StaleFileKind::Temporary => None,
        };
        let Some(id) = id else {
            self.maintenance().stale_files.remove(trace).await?;
            return Ok(true);
        };
        let mut guard = match self.ports.locks.lock(&LockName::Vm(id), REMOVAL, Duration::ZERO).await {
            Ok(guard) => guard,
            Err(LockError::Held { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let vm = self.ports.store.by_id(&id).await?;
        if vm.is_none() {
            guard.retire();
        }
        let entry = vm.map(|vm| vm.entry);
        let is_needed = match &trace.kind {
            StaleFileKind::Sockets { boot, .. } => self.is_run_needed(&id, entry.as_ref(), *boot).await,
            StaleFileKind::Records { .. } => entry.is_some(),
            StaleFileKind::Lock { .. } | StaleFileKind::Temporary => false,
        };
        if is_needed {
            return Ok(false);
        }
        self.maintenance().stale_files.remove(trace).await?;
        Ok(true)
    }

    /// Returns whether a start of a VM is underway or up: written down, or seen to live.
    async fn is_run_needed(&self, id: &VmId, entry: Option<&VmEntry>, boot: BootNumber) -> bool {
        let run = entry.and_then(|entry| entry.run.as_ref());
        let is_open = run.is_some_and(|run| run.boot == boot && !matches!(run.phase, Phase::Ended(_)));
        let (sockets, records) = (self.folders.vm_sockets(id), self.folders.vm_records(id));
        is_open || self.ports.hypervisor.find(&RunPaths::new(&sockets, &records, boot)).await.is_some()
    }
}
