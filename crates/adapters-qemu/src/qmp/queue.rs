//! The queue before a monitor: one maqet process at a time.

use std::io;
use std::path::PathBuf;

use maqet_adapters_linux::LockedFile;
use maqet_adapters_linux::private_file::private_file;
use maqet_domain::vm::{MonitorRole, RunPaths};
use tokio::time::Instant;

/// The right to use a monitor.
pub(super) type Turn = LockedFile;

/// Returns the file that is locked while a maqet process uses a monitor.
pub(crate) fn turn_file(paths: &RunPaths, role: MonitorRole) -> PathBuf {
    paths.sockets.join(format!("{}.lock", role.name()))
}

/// Takes the turn if it is free.
pub(super) fn try_turn(paths: &RunPaths, role: MonitorRole) -> io::Result<Option<Turn>> {
    Ok(LockedFile::try_lock(private_file(&turn_file(paths, role))?)?.ok())
}

/// Waits for the turn; `None` if it is still taken at `deadline`.
pub(super) async fn turn(paths: &RunPaths, role: MonitorRole, deadline: Instant) -> io::Result<Option<Turn>> {
    Ok(LockedFile::lock(private_file(&turn_file(paths, role))?, deadline).await?.ok())
}
