//! Keeping the logs of runs within their limits.
//!
//! QEMU writes its logs itself and no maqet process stays beside it, so that the limits hold whenever a command works on
//! the VM, and all the time while one waits for it or follows it. `console` and `logs --follow` run no hooks, and so
//! leave the QMP log to the next command.

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use maqet_domain::port::{PathKind, Paths, Records};
use maqet_domain::size::ByteSize;
use maqet_domain::vm::{BootNumber, RunPaths, VmId};
use tokio::time::Instant;

use crate::app::ports::Directories;
use crate::app::shown;
use crate::log::failure::LogFailure;
use crate::log::limits::LogLimits;
use crate::{App, limits};

/// Delivers events that hooks have not received.
#[async_trait]
pub(crate) trait MissedEvents: Sync {
    /// Queues missed hooks of a VM, unless another process holds its lock; returns whether none are missed now.
    async fn deliver(&self, vm: &VmId) -> bool;
}

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

    /// Bounds the logs of a run whose hooks have received all of its events; a failure is only traced, as the operation
    /// matters more.
    pub(crate) async fn keep(&self, run: &RunPaths) {
        self.bound(run.qmp_log(), self.limits.qmp).await;
        self.keep_output(run).await;
    }

    /// Does the same for any run of a VM: where events would be dropped, they are first queued for its hooks.
    ///
    /// While another process holds the lock of the VM, the QMP log is left to that one.
    pub(crate) async fn keep_delivered(&self, hooks: &dyn MissedEvents, vm: &VmId, run: &RunPaths) {
        let log = run.qmp_log();
        if self.records.exceeds(&log, self.limits.qmp.bytes()).await && hooks.deliver(vm).await {
            self.bound(log, self.limits.qmp).await;
        }
        self.keep_output(run).await;
    }

    /// Does the same without the QMP log, for callers that run no hooks.
    async fn keep_output(&self, run: &RunPaths) {
        let LogLimits { serial, qemu, qmp: _, maqet: _, hooks: _, boots: _ } = self.limits;
        for (log, max) in [(run.serial_log(), serial), (run.qemu_log(), qemu), (run.cpu_log(), qemu)] {
            self.bound(log, max).await;
        }
        // The sockets of a run are removed once it has ended.
        if self.paths.kind(&run.sockets).await == PathKind::Directory
            && let Err(error) = self.records.reserve(&run.qmp_log(), limits::QMP_LOG_RESERVE_BYTES).await
        {
            tracing::warn!(%error, "cannot reserve space for the QMP log");
        }
    }

    async fn bound(&self, log: PathBuf, max: ByteSize) {
        if let Err(error) = self.records.bound(&log, max.bytes()).await {
            tracing::warn!(%error, log = %log.display(), "cannot bound the log");
        }
    }

    /// Does the same as [`keep_output`](Self::keep_output) for a caller in a loop, once in a while.
    pub(crate) async fn keep_output_periodically(&self, run: &RunPaths) {
        if self.is_due() {
            self.keep_output(run).await;
        }
    }

    /// Returns why the serial log of a run cannot be written, as on a full disk.
    pub(crate) async fn serial_failure(&self, run: &RunPaths) -> Option<LogFailure> {
        let failure = self.records.reserve(&run.serial_log(), limits::LOG_RESERVE_BYTES).await.err()?;
        let cause = failure.source().map_or_else(|| failure.to_string(), ToString::to_string);
        Some(LogFailure { directory: shown(&run.records), cause })
    }

    /// Bounds the logs of the newest boot of a VM, the only one that can grow, as [`keep_delivered`] does.
    ///
    /// [`keep_delivered`]: Self::keep_delivered
    pub(crate) async fn keep_newest(&self, hooks: &dyn MissedEvents, vm: &VmId) {
        if let Some(boot) = self.newest(vm).await {
            self.keep_delivered(hooks, vm, &self.folders.run(vm, boot)).await;
        }
    }

    /// Bounds the logs of the newest boot of a VM but its QMP log, for callers that run no hooks.
    pub(crate) async fn keep_newest_output(&self, vm: &VmId) {
        if let Some(boot) = self.newest(vm).await {
            self.keep_output(&self.folders.run(vm, boot)).await;
        }
    }

    async fn newest(&self, vm: &VmId) -> Option<BootNumber> {
        self.records.boots(&self.folders.vm_records(vm)).await.pop()
    }

    /// Bounds the logs of all boots of a VM: the limits may have been lowered since they ended.
    pub(crate) async fn keep_all(&self, hooks: &dyn MissedEvents, vm: &VmId) {
        for boot in self.records.boots(&self.folders.vm_records(vm)).await {
            self.keep_delivered(hooks, vm, &self.folders.run(vm, boot)).await;
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
