//! The queue before a monitor: one maqet process at a time.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use maqet_adapters_linux::pause;
use maqet_adapters_linux::private_file::private_file;
use maqet_domain::vm::{MonitorRole, RunPaths};
use tokio::time::Instant;

/// The right to use a monitor, until it is dropped or its process ends.
#[derive(Debug)]
pub(super) struct Turn {
    file: File,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Closing is not enough: a child being spawned right now has a copy of the file until its `exec`.
        let _ = self.file.unlock();
    }
}

/// Returns the file that is locked while a maqet process uses a monitor.
pub(crate) fn turn_file(paths: &RunPaths, role: MonitorRole) -> PathBuf {
    paths.sockets.join(format!("{}.lock", role.name()))
}

/// Takes the turn if it is free.
pub(super) fn try_turn(paths: &RunPaths, role: MonitorRole) -> io::Result<Option<Turn>> {
    let file = private_file(&turn_file(paths, role))?;
    try_lock(&file).map(|taken| taken.then_some(Turn { file }))
}

/// Waits for the turn; `None` when `until` passed first.
pub(super) async fn turn(paths: &RunPaths, role: MonitorRole, until: Instant) -> io::Result<Option<Turn>> {
    let path: &Path = &turn_file(paths, role);
    let file = private_file(path)?;
    loop {
        if try_lock(&file)? {
            return Ok(Some(Turn { file }));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        pause().await;
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(why)) => Err(why),
    }
}
