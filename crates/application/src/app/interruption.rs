//! What an instance does when it is told to end: what is half-way is given up in order, and written down.

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, Default)]
struct State {
    is_told: bool,
    /// How many operations are at a point at which they are not to be cut off.
    half_way: usize,
}

/// Tells operations that the instance is to end, and knows which of them are half-way.
#[derive(Debug, Default)]
pub(crate) struct Interruption(watch::Sender<State>);

/// An operation that is half-way, until it is dropped.
#[derive(Debug)]
pub(crate) struct HalfWay<'a>(&'a Interruption);

impl Interruption {
    /// Notes an operation that has written down what it is about to do, and is not to be cut off.
    pub(crate) fn half_way(&self) -> HalfWay<'_> {
        self.0.send_modify(|state| state.half_way += 1);
        HalfWay(self)
    }

    /// Tells whoever is half-way, and waits until nobody is.
    pub(crate) async fn tell(&self) {
        self.0.send_modify(|state| state.is_told = true);
        self.reach(|state| state.half_way == 0).await;
    }

    /// Waits until the instance is told to end.
    pub(crate) async fn told(&self) {
        self.reach(|state| state.is_told).await;
    }

    async fn reach(&self, wanted: impl FnMut(&State) -> bool) {
        // The sender is ours, so that it is not closed.
        let _ = self.0.subscribe().wait_for(wanted).await;
    }
}

impl Drop for HalfWay<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.half_way -= 1);
    }
}
