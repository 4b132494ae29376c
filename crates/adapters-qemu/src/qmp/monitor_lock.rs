//! The lock of a monitor: one maqet process at a time uses it.

use std::io;
use std::path::PathBuf;

use maqet_adapters_linux::LockedFile;
use maqet_adapters_linux::private_file::private_file;
use maqet_domain::vm::{MonitorRole, RunPaths};
use tokio::time::Instant;

/// The right to use a monitor, which is that of the lock file.
pub(super) type MonitorLock = LockedFile;

/// Returns the file that is locked while a maqet process uses a monitor.
pub(crate) fn lock_path(paths: &RunPaths, role: MonitorRole) -> PathBuf {
    paths.sockets.join(format!("{}.lock", role.name()))
}

/// Locks a monitor if it is free.
pub(super) fn try_lock_monitor(paths: &RunPaths, role: MonitorRole) -> io::Result<Option<MonitorLock>> {
    Ok(LockedFile::try_lock(private_file(&lock_path(paths, role))?)?.ok())
}

/// Locks a monitor, waiting for it; `None` if it is still locked at `deadline`.
pub(super) async fn lock_monitor(
    paths: &RunPaths,
    role: MonitorRole,
    deadline: Instant,
) -> io::Result<Option<MonitorLock>> {
    Ok(LockedFile::lock(private_file(&lock_path(paths, role))?, deadline).await?.ok())
}
