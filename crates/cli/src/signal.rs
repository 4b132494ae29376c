//! Signals that a command handles itself.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

pub(crate) use tokio::signal::unix::SignalKind;
use tokio::signal::unix::{Signal, signal};

/// Some signals, which no longer end the process.
pub(crate) struct Signals(Vec<(SignalKind, Signal)>);

impl Signals {
    /// Handles these signals from now on.
    pub(crate) fn new(kinds: &[SignalKind]) -> io::Result<Self> {
        let handled = kinds.iter().map(|kind| Ok((*kind, signal(*kind)?)));
        handled.collect::<io::Result<_>>().map(Self)
    }

    /// Waits for the next of them. Cancel-safe.
    pub(crate) async fn next(&mut self) -> SignalKind {
        poll_fn(|context| {
            let mut signals = self.0.iter_mut();
            let received = signals.find_map(|(kind, signal)| signal.poll_recv(context).is_ready().then_some(*kind));
            received.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}
