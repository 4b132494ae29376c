//! Removes a stale file under the lock of the VM it belonged to.
//!
//! Between the search and the removal the VM may be started, also under the number of a start that failed, or be
//! adopted: then the same path is in use.

use std::time::Duration;

use maqet_domain::port::{
    Hypervisor, LockError, LockName, Locks, RemoveError, StaleFile, StaleFileKind, StaleFiles, Store, StoreError,
};
use maqet_domain::vm::{BootNumber, VmEntry, VmId};

use crate::app::ports::Directories;

/// The operation named as the holder of the lock.
const OPERATION: &str = "cleanup";

/// Why a stale file was not removed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) enum RemovalError {
    Remove(#[from] RemoveError),
    Lock(#[from] LockError),
    Store(#[from] StoreError),
}

/// Removes stale files.
pub(crate) struct StaleFileRemoval<'a> {
    pub(crate) stale_files: &'a dyn StaleFiles,
    pub(crate) locks: &'a dyn Locks,
    pub(crate) store: &'a dyn Store,
    pub(crate) hypervisor: &'a dyn Hypervisor,
    pub(crate) folders: &'a Directories,
    /// The VMs when the files were searched for.
    pub(crate) entries: &'a [VmEntry],
}

impl StaleFileRemoval<'_> {
    /// Removes a file if it is still stale; returns whether it was.
    ///
    /// A file of a VM that another process works on is kept.
    pub(crate) async fn remove(&self, file: &StaleFile) -> Result<bool, RemovalError> {
        let by_short_id = |short: &str| self.entries.iter().find(|entry| entry.id.short() == short);
        let id = match &file.kind {
            StaleFileKind::Sockets { short, .. } => by_short_id(short).map(|entry| entry.id),
            StaleFileKind::Records { id, .. } => Some(*id),
            // The port removes a lock while it holds it, and finds the process of a temporary file in its name.
            StaleFileKind::Lock { .. } | StaleFileKind::Temporary => None,
        };
        let Some(id) = id else {
            self.stale_files.remove(file).await?;
            return Ok(true);
        };
        let mut guard = match self.locks.lock(&LockName::Vm(id), OPERATION, Duration::ZERO).await {
            Ok(guard) => guard,
            Err(LockError::InUse { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let vm = self.store.by_id(&id).await?;
        if vm.is_none() {
            guard.retire();
        }
        let entry = vm.map(|vm| vm.entry);
        let is_used = match &file.kind {
            StaleFileKind::Sockets { boot, .. } => self.is_run_open(&id, entry.as_ref(), *boot).await,
            StaleFileKind::Records { .. } => entry.is_some(),
            StaleFileKind::Lock { .. } | StaleFileKind::Temporary => false,
        };
        if is_used {
            return Ok(false);
        }
        self.stale_files.remove(file).await?;
        Ok(true)
    }

    /// Returns whether a run is recorded as open, or its process runs.
    async fn is_run_open(&self, id: &VmId, entry: Option<&VmEntry>, boot: BootNumber) -> bool {
        let is_recorded = entry.and_then(VmEntry::open_run).is_some_and(|run| run.boot == boot);
        let paths = self.folders.run(id, boot);
        is_recorded || self.hypervisor.find_process(&paths).await.is_some() || self.hypervisor.is_hidden(&paths).await
    }
}
