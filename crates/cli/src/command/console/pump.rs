//! Bytes from standard input to a console and back.
//!
//! No direction waits for another: a guest that takes nothing must not keep its output from being seen, and neither it
//! nor a terminal that was halted must keep somebody from leaving.

use std::io;
use std::time::Duration;

use maqet::domain::port::ConsoleStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};

use crate::args::ConsoleArgs;
use crate::failure::Failure;
use crate::stream::{Stdin, Stdout};
use crate::terminal::RawTerminal;

/// How much is kept for a guest that does not take it; from a pipe nothing more is read then, and keys are dropped, as
/// the one that leaves may be among them.
const PENDING_BYTES: usize = 64 << 10;

/// How long what was typed before the key that leaves may take to reach the guest.
const LAST_KEYS: Duration = Duration::from_secs(1);

/// Why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Somebody left.
    Left,
    /// QEMU closed the console.
    Closed,
    /// The input ended, and the guest was silent long enough.
    Silent,
    /// Nobody reads our output any more.
    NobodyReads,
    /// The time was over.
    TimedOut,
    /// A signal.
    Interrupted,
}

/// Passes bytes on.
pub(super) struct Pump<'a> {
    console: &'a dyn ConsoleStream,
    stdout: &'a Stdout,
    terminal: Option<&'a RawTerminal>,
    /// The key that leaves; none where there are no keys.
    escape: Option<u8>,
    stdin: Stdin,
    /// Whether standard input may bring more.
    is_open: bool,
    /// On its way to the guest.
    pending: Vec<u8>,
    /// Whether the guest may take more.
    takes: bool,
    /// On its way to standard output.
    heard: Option<Vec<u8>>,
    deadline: Option<Instant>,
    idle: Option<Duration>,
    last: Instant,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        console: &'a dyn ConsoleStream,
        stdout: &'a Stdout,
        terminal: Option<&'a RawTerminal>,
        args: &ConsoleArgs,
    ) -> Self {
        Self {
            console,
            stdout,
            terminal,
            escape: args.escape.0.filter(|_| terminal.is_some()),
            stdin: Stdin::open(),
            is_open: true,
            pending: Vec::new(),
            takes: true,
            heard: None,
            deadline: args.timeout.map(|timeout| Instant::now() + timeout.duration()),
            idle: args.idle.map(maqet::HumanDuration::duration),
            last: Instant::now(),
        }
    }

    /// Passes bytes on until one side ends or somebody leaves.
    pub(super) async fn run(mut self) -> Result<End, Failure> {
        let end = self.pump().await?;
        if matches!(end, End::Left | End::Silent) {
            // What cannot be delivered in this time will never be.
            let _ = timeout(LAST_KEYS, self.deliver()).await;
        }
        Ok(end)
    }

    async fn pump(&mut self) -> Result<End, Failure> {
        let mut signals = self.terminal.map(|_| Signals::new()).transpose()?;
        loop {
            let has_room = self.terminal.is_some() || self.pending.len() < PENDING_BYTES;
            let silence = self.idle.filter(|_| !self.is_open && (self.pending.is_empty() || !self.takes));
            tokio::select! {
                heard = self.console.read(), if self.heard.is_none() => {
                    let heard = heard.map_err(|error| Failure::explained(&error))?;
                    if heard.is_empty() {
                        return Ok(End::Closed);
                    }
                    self.last = Instant::now();
                    self.heard = Some(heard);
                }
                room = self.stdout.room(), if self.heard.is_some() => match (room, self.heard.take()) {
                    (Some(room), Some(heard)) => room.send(heard),
                    (Some(_), None) => {}
                    (None, _) => return Ok(End::NobodyReads),
                },
                typed = self.stdin.next(), if self.is_open && has_room => {
                    if self.is_left(typed) {
                        return Ok(End::Left);
                    }
                }
                sent = self.console.write(&self.pending), if self.takes && !self.pending.is_empty() => {
                    self.sent(sent.map_err(|error| Failure::explained(&error))?);
                }
                () = at(self.deadline) => return Ok(End::TimedOut),
                () = at(silence.map(|idle| self.last + idle)) => return Ok(End::Silent),
                told = next(&mut signals) => match (told, self.terminal) {
                    (Told::Continued, Some(terminal)) => terminal.make_raw()?,
                    (Told::Continued, None) => {}
                    (Told::End, _) => return Ok(End::Interrupted),
                },
            }
        }
    }

    /// Takes what came from standard input; returns whether somebody wants to leave.
    fn is_left(&mut self, typed: Option<Vec<u8>>) -> bool {
        let Some(typed) = typed else {
            self.is_open = false;
            self.last = Instant::now();
            // A terminal that ends is one that went away.
            return self.terminal.is_some();
        };
        let leaves_at = typed.iter().position(|byte| Some(*byte) == self.escape);
        let keys = typed.get(..leaves_at.unwrap_or(typed.len())).unwrap_or_default();
        if self.pending.len() < PENDING_BYTES {
            self.pending.extend_from_slice(keys);
        }
        leaves_at.is_some()
    }

    /// Sends what is left, and waits until the guest has taken all of it.
    async fn deliver(&mut self) {
        while self.takes && !self.pending.is_empty() {
            match self.console.write(&self.pending).await {
                Ok(length) => self.sent(length),
                Err(_) => return,
            }
        }
        self.console.end();
        while self.console.read().await.is_ok_and(|heard| !heard.is_empty()) {}
    }

    fn sent(&mut self, length: usize) {
        self.takes = length > 0;
        self.pending.drain(..length);
    }
}

/// Waits for a moment; for ever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What a signal says.
enum Told {
    /// End.
    End,
    /// Go on, after a stop, during which a shell has put the terminal back.
    Continued,
}

/// Signals that would end us with the terminal still raw; those that end every command are caught elsewhere.
///
/// Caught only while a terminal is raw: a program without one may have been started to outlive its terminal.
struct Signals {
    hangup: Signal,
    quit: Signal,
    continued: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            continued: signal(SignalKind::from_raw(rustix::process::Signal::CONT.as_raw()))?,
        })
    }
}

/// Waits for the next signal; for ever where none is caught.
async fn next(signals: &mut Option<Signals>) -> Told {
    let Some(Signals { hangup, quit, continued }) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = hangup.recv() => Told::End,
        _ = quit.recv() => Told::End,
        _ = continued.recv() => Told::Continued,
    }
}
