//! Keeping the logs of runs within their limits.
//!
//! QEMU writes its logs itself and no maqet process stays beside it, so that the limits hold whenever a command works on
//! the VM, and all the time while one waits for it or follows it.

use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};

use maqet_domain::port::{PathKind, Paths, Records};
use maqet_domain::vm::{RunPaths, VmId};
use tokio::time::Instant;

use crate::app::ports::Directories;
use crate::app::shown;
use crate::log::failure::LogFailure;
use crate::log::limits::LogLimits;
use crate::{App, limits};

/// Bounds the logs of runs, and reserves space for the last events of QEMU.
pub(crate) struct LogKeeper {
    records: Arc<dyn Records>,
    paths: Arc<dyn Paths>,
    folders: Directories,
    limits: LogLimits,
    last: Mutex<Option<Instant>>,
}

impl LogKeeper {
    pub(crate) fn new(app: &App) -> Self {
        Self {
            records: Arc::clone(&app.ports.records),
            paths: Arc::clone(&app.ports.paths),
            folders: app.folders.clone(),
            limits: app.settings().logs,
            last: Mutex::default(),
        }
    }

    /// Bounds the logs of a run; a failure is only traced, as the operation matters more.
    pub(crate) async fn keep(&self, run: &RunPaths) {
        let LogLimits { serial, qemu, qmp, maqet: _, boots: _ } = self.limits;
        for (log, max) in
            [(run.serial_log(), serial), (run.qemu_log(), qemu), (run.cpu_log(), qemu), (run.qmp_log(), qmp)]
        {
            if let Err(error) = self.records.bound(&log, max.bytes()).await {
                tracing::warn!(%error, log = %log.display(), "cannot bound the log");
            }
        }
        // The sockets of a run are removed once it has ended.
        if self.paths.kind(&run.sockets).await == PathKind::Directory
            && let Err(error) = self.records.reserve(&run.qmp_log(), limits::QMP_LOG_RESERVE_BYTES).await
        {
            tracing::warn!(%error, "cannot reserve space for the QMP log");
        }
    }

    /// Does the same for a caller in a loop, once in a while.
    pub(crate) async fn keep_periodically(&self, run: &RunPaths) {
        if self.is_due() {
            self.keep(run).await;
        }
    }

    /// Returns why the serial log of a run cannot be written, as on a full disk.
    pub(crate) async fn serial_failure(&self, run: &RunPaths) -> Option<LogFailure> {
        let failure = self.records.reserve(&run.serial_log(), limits::LOG_RESERVE_BYTES).await.err()?;
        let cause = failure.source().map_or_else(|| failure.to_string(), ToString::to_string);
        Some(LogFailure { directory: shown(&run.records), cause })
    }

    /// Bounds the logs of the newest boot of a VM, the only one that can grow.
    pub(crate) async fn keep_newest(&self, vm: &VmId) {
        if let Some(boot) = self.records.boots(&self.folders.vm_records(vm)).await.last() {
            self.keep(&self.folders.run(vm, *boot)).await;
        }
    }

    /// Bounds the logs of all boots of a VM: the limits may have been lowered since they ended.
    pub(crate) async fn keep_all(&self, vm: &VmId) {
        for boot in self.records.boots(&self.folders.vm_records(vm)).await {
            self.keep(&self.folders.run(vm, boot)).await;
        }
    }

    /// Returns whether the interval has passed since the last time that this was true.
    pub(crate) fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= limits::LOG_BOUND_INTERVAL);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}
