//! How far operations have come that can tell.

use std::sync::OnceLock;

use maqet_domain::vm::VmName;
use tokio::sync::broadcast::{self, error::RecvError};

/// How far an operation has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Its name.
    pub operation: &'static str,
    /// The VM.
    pub vm: VmName,
    /// How much is done.
    pub done: usize,
    /// How much there is to do.
    pub total: usize,
}

/// How many reports wait for a slow reader; only the newest is of interest.
const HELD: usize = 16;

/// The progress of the operations of this instance, from the moment the stream was made; a slow reader misses some.
#[derive(Debug)]
pub struct ProgressStream(broadcast::Receiver<Progress>);

impl ProgressStream {
    /// Waits for the next report; `None` once the instance is gone.
    pub async fn next(&mut self) -> Option<Progress> {
        loop {
            match self.0.recv().await {
                Ok(progress) => return Some(progress),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Tells progress to those who want to know.
#[derive(Default)]
pub(crate) struct ProgressBoard {
    /// Made with the first reader: most instances have none.
    sender: OnceLock<broadcast::Sender<Progress>>,
}

impl ProgressBoard {
    pub(crate) fn watch(&self) -> ProgressStream {
        ProgressStream(self.sender.get_or_init(|| broadcast::channel(HELD).0).subscribe())
    }

    pub(crate) fn tell(&self, progress: impl FnOnce() -> Progress) {
        if let Some(sender) = self.sender.get() {
            // Nobody may read any more.
            let _ = sender.send(progress());
        }
    }
}
