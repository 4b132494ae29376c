//! How another process has a checkpoint given up: it leaves a note in the directory of the unfinished checkpoint.
//!
//! QEMU must not be asked directly: one that saves a guest in the background and cannot end that early would leave the
//! guest hanging, and the process that takes the checkpoint knows which one it is.

use std::path::Path;

use maqet_domain::vm::{CheckpointWork, PendingWork, VmEntry};
use tokio::time::sleep;

use super::create::CANCEL_INTERVAL;
use crate::{App, Error};

/// Returns the checkpoint that is being taken of a VM.
pub(crate) fn under_way(entry: &VmEntry) -> Option<&CheckpointWork> {
    match &entry.pending.as_ref()?.work {
        PendingWork::CheckpointCreate(work) => Some(work),
        _ => None,
    }
}

/// Has the process that takes a checkpoint give it up.
pub(crate) async fn request(app: &App, work: &CheckpointWork) -> Result<(), Error> {
    Ok(app.ports.checkpoints.cancel(&work.partial).await?)
}

/// Returns whether a checkpoint is to be given up.
pub(super) async fn is_requested(app: &App, partial: &Path) -> bool {
    app.ports.checkpoints.is_canceled(partial).await
}

/// Waits until a checkpoint is to be given up.
pub(super) async fn requested(app: &App, partial: &Path) {
    while !is_requested(app, partial).await {
        sleep(CANCEL_INTERVAL).await;
    }
}
