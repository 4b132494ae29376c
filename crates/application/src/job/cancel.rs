//! Canceling jobs: each stops at a safe point and cleans up.

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, Default)]
struct JobState {
    is_cancelled: bool,
    /// How many jobs are between two steps that belong together.
    held: usize,
}

/// Signals jobs to stop, and counts those that must not be cut off.
#[derive(Debug, Default)]
pub(super) struct Cancellation(watch::Sender<JobState>);

/// A job that must not be cut off, until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold<'a>(&'a Cancellation);

impl Cancellation {
    pub(super) fn hold(&self) -> Hold<'_> {
        self.0.send_modify(|state| state.held += 1);
        Hold(self)
    }

    /// Cancels, and waits until nothing is held.
    pub(super) async fn cancel(&self) {
        self.0.send_modify(|state| state.is_cancelled = true);
        self.wait_until(|state| state.held == 0).await;
    }

    /// Waits for the cancellation.
    pub(super) async fn cancelled(&self) {
        self.wait_until(|state| state.is_cancelled).await;
    }

    async fn wait_until(&self, condition: impl FnMut(&JobState) -> bool) {
        // The sender belongs to `self`, so the channel is open.
        let _ = self.0.subscribe().wait_for(condition).await;
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.held -= 1);
    }
}
