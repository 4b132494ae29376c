//! What a command's streams are connected with on the side of the host.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use maqet_domain::guest::{GuestStream, ProcessSignal, TerminalSize};

use crate::limits;

/// The streams of a command, on the side of the caller of [`Exec`](crate::operation::Exec).
///
/// All methods are cancel safe.
#[async_trait]
pub trait ExecStreams: Send + Sync {
    /// Returns whether the command has a standard input; without one, it reads from `/dev/null`.
    fn has_input(&self) -> bool;

    /// Returns the next bytes for the standard input; none at its end.
    async fn read(&self) -> Vec<u8>;

    /// Waits until output can be written; returns whether it is still read.
    async fn writable(&self, stream: GuestStream) -> bool;

    /// Writes output, after [`writable`](Self::writable) has returned.
    fn write(&self, stream: GuestStream, bytes: Vec<u8>);

    /// Returns the size of the terminal that the command is to have; `None` for none.
    ///
    /// With one, the standard error of the command goes where its standard output goes.
    fn terminal(&self) -> Option<TerminalSize> {
        None
    }

    /// Waits until the terminal has another size.
    async fn resized(&self) -> TerminalSize {
        pending().await
    }

    /// Waits for the next signal to send to the command.
    async fn signal(&self) -> ProcessSignal {
        pending().await
    }
}

/// Streams in memory: a whole input, unless the caller has one, and output up to a limit.
pub(crate) struct CapturedStreams {
    input: Mutex<Option<Vec<u8>>>,
    has_input: bool,
    caller: Option<Arc<dyn ExecStreams>>,
    captured: Mutex<Captured>,
}

/// The captured output of a command.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) is_truncated: bool,
}

impl CapturedStreams {
    /// `caller` has the signals, and the input if there is no other.
    pub(crate) fn new(input: Option<Vec<u8>>, caller: Option<Arc<dyn ExecStreams>>) -> Self {
        Self { has_input: input.is_some(), input: Mutex::new(input), caller, captured: Mutex::default() }
    }

    /// Returns the output so far.
    pub(crate) fn take(&self) -> Captured {
        std::mem::take(&mut *self.captured.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl ExecStreams for CapturedStreams {
    fn has_input(&self) -> bool {
        self.has_input || self.caller.as_ref().is_some_and(|caller| caller.has_input())
    }

    async fn read(&self) -> Vec<u8> {
        if let Some(caller) = self.caller.as_ref().filter(|_| !self.has_input) {
            return caller.read().await;
        }
        self.input.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    async fn writable(&self, _: GuestStream) -> bool {
        true
    }

    fn write(&self, stream: GuestStream, bytes: Vec<u8>) {
        let mut captured = self.captured.lock().unwrap_or_else(PoisonError::into_inner);
        let Captured { stdout, stderr, is_truncated } = &mut *captured;
        let buffer = if stream == GuestStream::Err { stderr } else { stdout };
        let room = limits::MAX_CAPTURED_BYTES.saturating_sub(buffer.len());
        *is_truncated |= bytes.len() > room;
        buffer.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    async fn signal(&self) -> ProcessSignal {
        match &self.caller {
            Some(caller) => caller.signal().await,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn test_captured_streams_keep_output_apart_and_bounded() {
        let streams = CapturedStreams::new(Some(b"in".to_vec()), None);

        let input = (streams.read().await, streams.read().await);
        streams.write(GuestStream::Out, b"out".to_vec());
        streams.write(GuestStream::Err, vec![b'e'; limits::MAX_CAPTURED_BYTES + 1]);

        let captured = streams.take();
        assert_eq!(input, (b"in".to_vec(), Vec::new()));
        assert_eq!((captured.stdout, captured.stderr.len()), (b"out".to_vec(), limits::MAX_CAPTURED_BYTES));
        assert!(captured.is_truncated && streams.has_input());
        assert!(!CapturedStreams::new(None, None).has_input());
    }
}
