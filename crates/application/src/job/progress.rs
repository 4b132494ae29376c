//! The progress of jobs, as a stream.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};

use super::running::JobInfo;

/// The unit of a progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
#[non_exhaustive]
pub enum ProgressUnit {
    /// Keys that are pressed.
    Keys,
    /// Conditions that are met.
    Conditions,
    /// Bytes.
    Bytes,
    /// Seconds of the time that something may take.
    Seconds,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The job.
    pub job: JobInfo,
    /// What it does at the moment, as in `saving the guest's memory`, if it has several stages.
    pub stage: Option<String>,
    /// The unit of `done` and `total`.
    pub unit: ProgressUnit,
    /// How much is done.
    pub done: u64,
    /// How much there is to do, where that is known.
    pub total: Option<u64>,
    /// How long the job has been running.
    pub elapsed: Duration,
}

impl Progress {
    /// Returns how much is done in a second, once something is done.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn rate(&self) -> Option<f64> {
        (self.done > 0 && !self.elapsed.is_zero()).then(|| self.done as f64 / self.elapsed.as_secs_f64())
    }

    /// Returns an estimate of the time until the end, where total and rate are known.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn eta(&self) -> Option<Duration> {
        let left = self.total?.saturating_sub(self.done) as f64;
        Duration::try_from_secs_f64(left / self.rate()?).ok()
    }
}

/// How many reports wait for a slow reader; only the newest is of interest.
const HELD_REPORTS: usize = 16;

/// The progress of the jobs of an instance, since the stream was made; a slow reader misses reports.
#[derive(Debug)]
pub struct ProgressStream(broadcast::Receiver<Progress>);

impl ProgressStream {
    /// Returns another stream, from now on.
    #[must_use]
    pub fn resubscribe(&self) -> Self {
        Self(self.0.resubscribe())
    }

    /// Waits for the next report; `None` once the instance is dropped.
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

/// Publishes progress to the streams.
#[derive(Default)]
pub(super) struct ProgressBoard {
    /// Made for the first reader: most instances have none.
    sender: OnceLock<broadcast::Sender<Progress>>,
}

impl ProgressBoard {
    pub(super) fn watch(&self) -> ProgressStream {
        ProgressStream(self.sender.get_or_init(|| broadcast::channel(HELD_REPORTS).0).subscribe())
    }

    pub(super) fn publish(&self, progress: impl FnOnce() -> Progress) {
        if let Some(sender) = self.sender.get() {
            // Without readers this fails, which is fine.
            let _ = sender.send(progress());
        }
    }
}
