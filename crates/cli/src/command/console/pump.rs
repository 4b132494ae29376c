//! Bytes from standard input to a console and back.
//!
//! Neither direction waits for the other: a guest that does not read must not block its output, and neither such a
//! guest nor a suspended terminal must prevent detaching.

use std::io;
use std::time::Duration;

use maqet::ErrorReport;
use maqet::domain::port::ConsoleStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::args::ConsoleArgs;
use crate::error::terminal_failed;
use crate::stream::{Stdin, Stdout};
use crate::terminal::RawTerminal;

/// How many bytes wait for a guest that does not read. A pipe is not read further then; keys are dropped, as the one
/// that detaches may be among them.
const MAX_PENDING_BYTES: usize = 64 << 10;

/// How long the guest may take to read the keys before the one that detaches.
const DELIVER_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PumpOutcome {
    /// The user pressed the key that detaches.
    Detached,
    /// QEMU closed the console.
    Closed,
    /// Standard input ended and the guest was silent for long enough.
    Idle,
    /// Standard output is no longer read.
    OutputClosed,
    TimedOut,
    /// By a signal.
    Interrupted,
}

/// The connection between standard input and output and a console.
pub(super) struct Pump<'a> {
    console: &'a dyn ConsoleStream,
    stdout: &'a Stdout,
    terminal: Option<&'a mut RawTerminal>,
    /// The key that detaches, on a terminal.
    escape: Option<u8>,
    stdin: Stdin,
    is_stdin_open: bool,
    /// On its way to the guest.
    pending: Vec<u8>,
    /// Whether the console accepts input.
    accepts_input: bool,
    /// On its way to standard output.
    received: Option<Vec<u8>>,
    deadline: Option<Instant>,
    idle: Option<Duration>,
    last_activity: Instant,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        console: &'a dyn ConsoleStream,
        stdout: &'a Stdout,
        terminal: Option<&'a mut RawTerminal>,
        args: &ConsoleArgs,
    ) -> Self {
        Self {
            console,
            stdout,
            escape: args.escape.0.filter(|_| terminal.is_some()),
            terminal,
            stdin: Stdin::open(),
            is_stdin_open: true,
            pending: Vec::new(),
            accepts_input: true,
            received: None,
            deadline: args.timeout.map(|timeout| Instant::now() + timeout.duration()),
            idle: args.idle.map(maqet::HumanDuration::duration),
            last_activity: Instant::now(),
        }
    }

    /// Passes bytes on until the connection ends.
    pub(super) async fn run(mut self) -> Result<PumpOutcome, ErrorReport> {
        let outcome = self.pump().await?;
        if matches!(outcome, PumpOutcome::Detached | PumpOutcome::Idle) {
            // Input that the guest has not read by then is lost.
            let _ = timeout(DELIVER_TIMEOUT, self.deliver()).await;
        }
        Ok(outcome)
    }

    async fn pump(&mut self) -> Result<PumpOutcome, ErrorReport> {
        loop {
            let has_room = self.terminal.is_some() || self.pending.len() < MAX_PENDING_BYTES;
            let is_delivered = self.pending.is_empty() || !self.accepts_input;
            let idle = self.idle.filter(|_| !self.is_stdin_open && is_delivered);
            tokio::select! {
                received = self.console.read(), if self.received.is_none() => {
                    let received = received.map_err(|error| ErrorReport::from_error(&error))?;
                    if received.is_empty() {
                        return Ok(PumpOutcome::Closed);
                    }
                    self.last_activity = Instant::now();
                    self.received = Some(received);
                }
                permit = self.stdout.reserve(), if self.received.is_some() => match (permit, self.received.take()) {
                    (Some(permit), Some(received)) => permit.send(received),
                    (Some(_), None) => {}
                    (None, _) => return Ok(PumpOutcome::OutputClosed),
                },
                typed = self.stdin.next(), if self.is_stdin_open && has_room => {
                    if self.detaches(typed) {
                        return Ok(PumpOutcome::Detached);
                    }
                }
                sent = self.console.write(&self.pending), if self.accepts_input && !self.pending.is_empty() => {
                    self.sent(sent.map_err(|error| ErrorReport::from_error(&error))?);
                }
                () = at(self.deadline) => return Ok(PumpOutcome::TimedOut),
                () = at(idle.map(|idle| self.last_activity + idle)) => return Ok(PumpOutcome::Idle),
                interrupted = interrupted(&mut self.terminal) => {
                    return interrupted.map(|()| PumpOutcome::Interrupted).map_err(terminal_failed);
                }
            }
        }
    }

    /// Queues input for the guest; returns whether it detaches.
    fn detaches(&mut self, typed: Option<Vec<u8>>) -> bool {
        let Some(typed) = typed else {
            self.is_stdin_open = false;
            self.last_activity = Instant::now();
            // A terminal at its end was closed.
            return self.terminal.is_some();
        };
        let escape_at = typed.iter().position(|byte| Some(*byte) == self.escape);
        let keys = typed.get(..escape_at.unwrap_or(typed.len())).unwrap_or_default();
        if self.pending.len() < MAX_PENDING_BYTES {
            self.pending.extend_from_slice(keys);
        }
        escape_at.is_some()
    }

    /// Sends the pending input, and waits until the guest has read all of it.
    async fn deliver(&mut self) {
        while self.accepts_input && !self.pending.is_empty() {
            match self.console.write(&self.pending).await {
                Ok(length) => self.sent(length),
                Err(_) => return,
            }
        }
        self.console.end();
        while self.console.read().await.is_ok_and(|received| !received.is_empty()) {}
    }

    fn sent(&mut self, length: usize) {
        self.accepts_input = length > 0;
        self.pending.drain(..length);
    }
}

/// Waits until a moment, or forever.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits for a signal that is to end the process, or forever if the terminal is not raw.
async fn interrupted(terminal: &mut Option<&mut RawTerminal>) -> io::Result<()> {
    match terminal {
        Some(terminal) => terminal.interrupted().await,
        None => std::future::pending().await,
    }
}
