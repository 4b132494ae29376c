//! The streams of a command, of which the end is kept, and whose signals end the whole run.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use maqet_domain::guest::{GuestStream, ProcessSignal, TerminalSize};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::guest::streams::ExecStreams;
use crate::limits;

/// Passes everything on, and takes note of it.
pub(super) struct Relay {
    caller: Arc<dyn ExecStreams>,
    tails: [Mutex<Vec<u8>>; 2],
    /// The first signal that asks for the end of the run: an interrupt is for the command alone.
    ending: watch::Sender<Option<ProcessSignal>>,
}

impl Relay {
    pub(super) fn new(caller: Arc<dyn ExecStreams>) -> Self {
        Self { caller, tails: Default::default(), ending: watch::Sender::default() }
    }

    /// Returns the end of standard output and standard error.
    pub(super) fn tails(&self) -> [String; 2] {
        self.tails.each_ref().map(|tail| {
            let tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&tail).into_owned()
        })
    }

    /// Returns the signal that ended the run, if any did: the first that asked for it, or else an interrupt.
    pub(super) fn ended_by(&self) -> ProcessSignal {
        self.ending.borrow().unwrap_or(ProcessSignal::Int)
    }

    /// Waits until a signal has asked for the end of the run, and the command had so much time to end; returns the signal.
    pub(super) async fn overdue(&self, after: Duration) -> ProcessSignal {
        let mut ending = self.ending.subscribe();
        let signal = ending.wait_for(Option::is_some).await.ok().and_then(|signal| *signal);
        let Some(signal) = signal else { return pending().await };
        sleep(after).await;
        signal
    }
}

#[async_trait]
impl ExecStreams for Relay {
    fn has_input(&self) -> bool {
        self.caller.has_input()
    }

    async fn read(&self) -> Vec<u8> {
        self.caller.read().await
    }

    async fn writable(&self, stream: GuestStream) -> bool {
        self.caller.writable(stream).await
    }

    fn write(&self, stream: GuestStream, bytes: Vec<u8>) {
        let mut tail =
            self.tails[usize::from(stream == GuestStream::Err)].lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&bytes);
        let excess = tail.len().saturating_sub(limits::RUN_TAIL_BYTES);
        // Not for each byte beyond the limit.
        if excess > limits::RUN_TAIL_BYTES {
            tail.drain(..excess);
        }
        drop(tail);
        self.caller.write(stream, bytes);
    }

    fn terminal(&self) -> Option<TerminalSize> {
        self.caller.terminal()
    }

    async fn resized(&self) -> TerminalSize {
        self.caller.resized().await
    }

    async fn signal(&self) -> ProcessSignal {
        let signal = self.caller.signal().await;
        if matches!(signal, ProcessSignal::Term | ProcessSignal::Hup | ProcessSignal::Kill) {
            self.ending.send_if_modified(|first| first.replace(first.unwrap_or(signal)).is_none());
        }
        signal
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// Streams whose signals are given.
    struct Fake(Mutex<Vec<ProcessSignal>>);

    #[async_trait]
    impl ExecStreams for Fake {
        fn has_input(&self) -> bool {
            false
        }

        async fn read(&self) -> Vec<u8> {
            Vec::new()
        }

        async fn writable(&self, _: GuestStream) -> bool {
            true
        }

        fn write(&self, _: GuestStream, _: Vec<u8>) {}

        async fn signal(&self) -> ProcessSignal {
            self.0.lock().unwrap().remove(0)
        }
    }

    fn relay(signals: &[ProcessSignal]) -> Relay {
        Relay::new(Arc::new(Fake(Mutex::new(signals.to_vec()))))
    }

    #[tokio::test(start_paused = true)]
    async fn test_relay_is_overdue_some_time_after_the_first_ending_signal() {
        let relay = relay(&[ProcessSignal::Int, ProcessSignal::Term, ProcessSignal::Hup]);
        let began = Instant::now();

        let signals = [relay.signal().await, relay.signal().await, relay.signal().await];
        let ended_by = relay.overdue(Duration::from_secs(10)).await;

        assert_eq!(signals, [ProcessSignal::Int, ProcessSignal::Term, ProcessSignal::Hup]);
        assert_eq!((relay.ended_by(), self::relay(&[]).ended_by()), (ProcessSignal::Term, ProcessSignal::Int));
        assert_eq!((ended_by, began.elapsed()), (ProcessSignal::Term, Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn test_relay_without_an_ending_signal_is_never_overdue() {
        let relay = relay(&[ProcessSignal::Int]);
        relay.signal().await;

        let overdue = tokio::time::timeout(Duration::from_hours(1), relay.overdue(Duration::ZERO)).await;

        assert!(overdue.is_err());
    }

    #[test]
    fn test_relay_keeps_the_end_of_each_stream() {
        let relay = relay(&[]);

        for _ in 0..100 {
            relay.write(GuestStream::Out, vec![b'x'; limits::RUN_TAIL_BYTES / 8]);
        }
        relay.write(GuestStream::Out, b"end".to_vec());
        relay.write(GuestStream::Err, b"error".to_vec());

        let [out, err] = relay.tails();
        assert!(out.ends_with("xend") && out.len() <= 2 * limits::RUN_TAIL_BYTES + 3, "{}", out.len());
        assert_eq!(err, "error");
    }
}
