//! Passes the streams of a command on until it has ended.
//!
//! Four things go on at once: bytes in both directions, the question to QEMU whether the guest still has the ports open,
//! requests to the agent, and what the user wants. None waits for another: a reader that is slow must not keep a timeout
//! from its effect. A command has ended once its process has exited and no process has its output open; then what is on
//! its way is read, which takes two answers of QEMU's main loop without a byte in between.

use std::time::Duration;

use maqet_domain::guest::{CommandStatus, ExecFailure, ExitStatus, GuestStream, Nonce, PortSet, ProcessSignal};
use maqet_domain::port::{AgentError, GuestStreams, PortError};
use maqet_domain::qmp::QmpError;
use maqet_domain::vm::HaltReason;
use tokio::time::{Instant, sleep_until};

use super::agent::ProcessState;
use super::channels::Channels;
use super::control::{Answer, Control, Work, working};
use super::passing::Passing;
use super::streams::ExecStreams;
use super::watch::Watch;
use crate::limits;
use crate::vm::monitor::Monitored;

/// How a command ended.
#[derive(Debug)]
pub(crate) enum PumpEnd {
    /// It exited, and all its output is written.
    Exited(ExitStatus),
    /// It was ended because its time was over; how, if its process had exited before and only its output was open.
    TimedOut { own_exit: Option<ExitStatus> },
    /// Its time was over before it was started.
    TooLate,
    /// It was ended on request, and may still run if the last request was SIGKILL.
    Interrupted(Option<ExitStatus>, ProcessSignal),
    /// Its process exited without having begun; with what was captured of its standard error.
    NotStarted(CommandStatus),
    /// It was started, and goes on without maqet.
    Detached,
    /// Nothing came from it.
    Silent,
    /// QEMU closed the ports.
    Closed,
    /// The guest does not go on, and QEMU has not exited.
    Halted(HaltReason),
    /// The guest closed the streams, and does not say how the command ended; why, where that is known.
    Lost(Option<String>),
}

/// What the pump works with.
pub(crate) struct PumpSetup<'a> {
    pub(crate) vm: &'a Monitored<'a>,
    pub(crate) ports: &'a dyn GuestStreams,
    pub(crate) streams: &'a dyn ExecStreams,
    pub(crate) set: PortSet,
    pub(crate) nonce: &'a Nonce,
    pub(crate) is_merged: bool,
    pub(super) watch: Watch<'a>,
}

/// One direction out of the guest.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// What came before the nonce of the command, up to its length: it was left by another one.
    head: Vec<u8>,
    pub(super) has_begun: bool,
}

/// The state of a command whose streams are ports.
pub(crate) struct Pump<'a> {
    setup: PumpSetup<'a>,
    outputs: [Output; 2],
    passing: Passing<'a>,
    exit: Option<ExitStatus>,
    /// The number of answers in a row that the output is closed, without a byte in between.
    quiet: u32,
    poll: Work<'a, Result<Channels, QmpError>>,
    polled_at: Instant,
    interval: Duration,
    control: Control<'a>,
    status_at: Instant,
    /// When it was started; once it has begun, when that was.
    began: Instant,
}

impl<'a> Pump<'a> {
    pub(crate) fn new(setup: PumpSetup<'a>, control: Control<'a>) -> Self {
        let now = Instant::now();
        let output = |is_read: bool| Output { has_begun: !is_read, ..Output::default() };
        Self {
            outputs: [output(true), output(!setup.is_merged)],
            passing: Passing::new(setup.streams),
            exit: None,
            quiet: 0,
            poll: None,
            polled_at: now,
            interval: limits::MAX_EXEC_POLL,
            control,
            status_at: now + limits::EXEC_STATUS_INTERVAL,
            began: now,
            setup,
        }
    }

    /// Returns how many bytes of standard output and standard error were passed on.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        self.passing.bytes()
    }

    /// Passes bytes on until the command has ended.
    pub(crate) async fn run(&mut self) -> Result<PumpEnd, PortError> {
        let PumpSetup { ports, streams, .. } = self.setup;
        loop {
            if let Some(end) = self.end() {
                return Ok(end);
            }
            self.start_work();
            let [writes_out, writes_err] = [0, 1].map(|index| self.passing.has_pending(index));
            let reads_input = self.has_begun() && self.passing.takes_input();
            let timer = self.timer();
            tokio::select! {
                bytes = ports.read(GuestStream::Out), if !writes_out => if !self.received(0, bytes?) { return Ok(PumpEnd::Closed) },
                bytes = ports.read(GuestStream::Err), if !writes_err && !self.setup.is_merged => {
                    if !self.received(1, bytes?) { return Ok(PumpEnd::Closed) }
                }
                is_read = streams.writable(GuestStream::Out), if writes_out => self.pass_on(0, is_read),
                is_read = streams.writable(GuestStream::Err), if writes_err => self.pass_on(1, is_read),
                bytes = streams.read(), if reads_input => self.typed(bytes),
                sent = ports.write(self.passing.input()), if !self.passing.input().is_empty() => self.passing.sent(sent?),
                signal = streams.signal() => self.control.signal(signal),
                size = streams.resized(), if self.has_begun() => self.control.resize(size),
                channels = working(&mut self.poll), if self.poll.is_some() => {
                    self.poll = None;
                    if let Some(end) = self.polled(channels)? { return Ok(end) }
                }
                end = self.setup.watch.answer() => if let Some(end) = end { return Ok(end) },
                answer = self.control.answer() => if let Some(end) = self.answered(answer)? { return Ok(end) },
                () = sleep_until(timer) => self.tick(),
            }
        }
    }

    fn has_begun(&self) -> bool {
        self.outputs.iter().all(|output| output.has_begun)
    }

    /// Returns how the command ended, once it has.
    fn end(&self) -> Option<PumpEnd> {
        if self.control.has_given_up() {
            return Some(self.control.end(self.exit).unwrap_or(PumpEnd::Silent));
        }
        let exit = self.exit.filter(|_| self.quiet >= 2 && self.has_begun())?;
        Some(self.control.end(Some(exit)).unwrap_or(PumpEnd::Exited(exit)))
    }

    /// Starts the next question to QEMU, and the next request to the agent, where it is time.
    fn start_work(&mut self) {
        let now = Instant::now();
        if self.poll.is_none() && now >= self.polled_at + self.interval {
            self.poll = Some(Box::pin(Channels::query(self.setup.vm)));
        }
        self.setup.watch.start_if_due();
        self.control.start_next();
    }

    /// Returns when something is to be done next.
    fn timer(&self) -> Instant {
        let poll = self.poll.is_none().then_some(self.polled_at + self.interval);
        let times = [poll, self.setup.watch.due_at(), self.control.due_at(), Some(self.status_at)];
        times.into_iter().flatten().min().unwrap_or(self.status_at)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.control.tick(self.exit.is_some());
        if now >= self.status_at {
            self.status_at = now + limits::EXEC_STATUS_INTERVAL;
            let needs_state = !self.has_begun() || self.quiet > 0 || self.control.is_timed_out();
            if needs_state && self.exit.is_none() && self.control.is_idle() {
                self.control.ask_state();
            }
            if !self.has_begun() && !self.control.is_killing() && now >= self.began + limits::EXEC_START_TIMEOUT {
                self.control.kill();
            }
        }
    }

    /// Takes output of the guest; returns `false` at its end.
    fn received(&mut self, index: usize, bytes: Vec<u8>) -> bool {
        if bytes.is_empty() {
            return false;
        }
        self.quiet = 0;
        let had_begun = self.has_begun();
        let bytes = self.outputs[index].after_head(bytes, &self.setup.nonce.first_line());
        if !had_begun && self.has_begun() {
            (self.began, self.interval) = (Instant::now(), limits::MIN_EXEC_POLL);
            self.polled_at = self.began;
        }
        self.passing.received(index, bytes);
        true
    }

    fn pass_on(&mut self, index: usize, is_read: bool) {
        if self.passing.pass_on(index, is_read) {
            // As a pipe does.
            self.control.send(ProcessSignal::Pipe);
        }
    }

    fn typed(&mut self, bytes: Vec<u8>) {
        if self.passing.typed(bytes) {
            self.setup.ports.end_input();
        }
    }

    /// Takes the answer of QEMU.
    fn polled(&mut self, channels: Result<Channels, QmpError>) -> Result<Option<PumpEnd>, PortError> {
        self.polled_at = Instant::now();
        self.control.release_if_due();
        let channels = match channels {
            Ok(channels) => channels,
            Err(error) if error.is_connection_loss() => return Ok(Some(PumpEnd::Closed)),
            Err(error) => {
                tracing::debug!(%error, "cannot query the channels");
                self.interval = limits::MAX_EXEC_POLL;
                return Ok(None);
            }
        };
        if channels.has_open_output(self.setup.set) || !self.passing.is_passed_on() {
            (self.quiet, self.interval) = (0, self.next_interval());
            return Ok(None);
        }
        if self.read_rest()? {
            self.interval = Duration::ZERO;
            return Ok(None);
        }
        if !self.has_begun() {
            self.interval = limits::MAX_EXEC_POLL;
            return Ok(None);
        }
        self.quiet = self.quiet.saturating_add(1);
        if self.exit.is_none() && self.quiet == 2 && self.control.is_idle() {
            self.control.ask_state();
        }
        self.interval = if self.quiet < 2 { Duration::ZERO } else { limits::MAX_EXEC_POLL };
        // Without an agent, how it ended is not known: the guest was reset.
        let is_reset = self.quiet >= 2 && self.exit.is_none() && channels.agent() == Some(false);
        Ok(is_reset.then_some(PumpEnd::Lost(None)))
    }

    /// Returns how long to wait until the next question: a small part of the time that the command has run.
    fn next_interval(&self) -> Duration {
        if !self.has_begun() {
            return limits::MAX_EXEC_POLL;
        }
        (self.began.elapsed() / limits::EXEC_POLL_SHARE).clamp(limits::MIN_EXEC_POLL, limits::MAX_EXEC_POLL)
    }

    /// Reads what is there; returns whether there was anything.
    fn read_rest(&mut self) -> Result<bool, PortError> {
        let mut has_more = false;
        for (index, stream) in [GuestStream::Out, GuestStream::Err].into_iter().enumerate() {
            let bytes = self.setup.ports.read_now(stream)?;
            has_more |= !bytes.is_empty() && self.received(index, bytes);
        }
        Ok(has_more)
    }

    /// Takes the answer of the agent.
    fn answered(&mut self, answer: Answer) -> Result<Option<PumpEnd>, PortError> {
        match answer {
            Answer::State(Ok(ProcessState::Known(status))) => {
                let Some(exit) = status.exit else { return Ok(None) };
                self.exit = Some(exit);
                if !self.has_begun() {
                    self.read_rest()?;
                }
                let has_failed = !self.has_begun() && (!status.stderr.is_empty() || exit != ExitStatus::Code(0));
                return Ok(has_failed.then(|| self.not_started(status)));
            }
            Answer::State(Ok(_)) if self.exit.is_none() => return Ok(Some(PumpEnd::Lost(None))),
            Answer::State(Err(AgentError::Closed)) => return Ok(Some(PumpEnd::Closed)),
            Answer::State(Err(error)) if self.quiet >= 2 => return Ok(Some(PumpEnd::Lost(Some(error.to_string())))),
            Answer::State(Err(error)) => tracing::warn!(%error, "the guest agent failed"),
            Answer::State(Ok(_)) | Answer::HadExited | Answer::Done => {}
        }
        Ok(None)
    }

    /// Returns the end of a process that has exited without having begun: by its own fault, or ours.
    fn not_started(&self, status: CommandStatus) -> PumpEnd {
        let is_ended = ExecFailure::from_stderr(self.setup.nonce, &status.stderr).is_none();
        self.control.end(None).filter(|_| is_ended).unwrap_or(PumpEnd::NotStarted(status))
    }
}

impl Output {
    /// Returns what of `bytes` the command has written: all after the line with its nonce.
    pub(super) fn after_head(&mut self, bytes: Vec<u8>, first_line: &[u8]) -> Vec<u8> {
        if self.has_begun {
            return bytes;
        }
        self.head.extend(bytes);
        let found = self.head.windows(first_line.len()).position(|window| window == first_line);
        if let Some(at) = found {
            self.has_begun = true;
            return std::mem::take(&mut self.head).split_off(at + first_line.len());
        }
        let excess = self.head.len().saturating_sub(first_line.len());
        self.head.drain(..excess);
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_output_before_the_nonce_is_discarded_in_any_pieces() {
        let line = Nonce::new([7; 16]).first_line();
        let bytes = [b"left over 0707", &line[..10], b"\n", &line, b"hello\n", &line].concat();

        for piece in [1, 5, 33, 1000] {
            let mut output = Output::default();
            let passed: Vec<u8> =
                bytes.chunks(piece).flat_map(|piece| output.after_head(piece.to_vec(), &line)).collect();
            assert_eq!(passed, [b"hello\n", &line[..]].concat(), "{piece}");
        }
    }

    #[test]
    fn test_output_without_a_nonce_takes_no_memory() {
        let line = Nonce::new([7; 16]).first_line();
        let mut output = Output::default();

        for _ in 0..100 {
            assert!(output.after_head(vec![b'x'; 4096], &line).is_empty());
        }

        assert!(output.head.len() <= line.len());
    }
}
