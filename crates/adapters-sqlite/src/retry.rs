//! Waiting for other processes, on the thread of the worker.

use std::thread;
use std::time::{Duration, Instant};

use maqet_adapters_linux::random_pause;
use rusqlite::Result;

use crate::error::is_busy;
use crate::limits;

/// A time after which a lock is no longer waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// Starts a timeout.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout)
    }

    /// Returns whether the timeout is over.
    pub(crate) fn is_over(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Calls `attempt` again while it fails because another process holds a lock, for at most `timeout`; the pauses grow and
/// vary.
pub(crate) fn retry_while_busy<T>(timeout: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Deadline::after(timeout);
    let mut longest = limits::MIN_RETRY_INTERVAL;
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && !deadline.is_over() => {
                thread::sleep(retry_pause(longest));
                longest = (longest * 2).min(limits::MAX_RETRY_INTERVAL);
            }
            result => return result,
        }
    }
}

/// Returns a random pause of at most `longest`, so that waiting processes do not wake at the same moment.
fn retry_pause(longest: Duration) -> Duration {
    random_pause(limits::MIN_RETRY_INTERVAL, longest.saturating_sub(limits::MIN_RETRY_INTERVAL))
}
