//! Passes the streams of a command on until it has ended.
//!
//! Four things go on at once: bytes in both directions, the question to QEMU whether the guest still has the ports open,
//! requests to the agent, and what the user wants. None waits for another: a reader that is slow must not keep a timeout
//! from its effect. A command has ended once its process has exited and no process has its output open; then what is on
//! its way is read, which takes two answers of QEMU's main loop without a byte in between.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use maqet_domain::guest::{CommandStatus, ExecFailure, ExitStatus, GuestStream, Nonce, PortSet, ProcessSignal};
use maqet_domain::port::{AgentError, GuestStreams, PortError};
use maqet_domain::qmp::QmpError;
use tokio::time::{Instant, sleep_until};

use super::agent::{Agent, HeldSession, ProcessState};
use super::channels::Channels;
use super::streams::ExecStreams;
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
    /// Nothing came from it.
    Silent,
    /// QEMU closed the ports.
    Closed,
    /// The guest closed the ports, and its agent does not know the command or does not answer.
    Lost(Option<AgentError>),
}

/// What the pump works with.
pub(crate) struct PumpSetup<'a> {
    pub(crate) vm: &'a Monitored<'a>,
    pub(crate) agent: Agent<'a>,
    pub(crate) ports: &'a dyn GuestStreams,
    pub(crate) streams: &'a dyn ExecStreams,
    pub(crate) set: PortSet,
    pub(crate) pid: i64,
    pub(crate) nonce: &'a Nonce,
    pub(crate) is_merged: bool,
    pub(crate) deadline: Option<Instant>,
    pub(crate) kill_after: Duration,
}

/// A request to the agent about the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Status,
    Signal(ProcessSignal),
    Sweep,
}

/// A request, and what the agent answered.
type Answer = (Request, Result<Option<ProcessState>, AgentError>);

type Work<'a, T> = Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>;

/// One direction out of the guest.
#[derive(Debug, Default)]
struct Output {
    /// What came before the nonce of the command, up to its length: it was left by another one.
    head: Vec<u8>,
    has_begun: bool,
    /// On its way to the caller.
    pending: Option<Vec<u8>>,
    /// Whether the caller still reads it.
    is_read: bool,
    bytes: u64,
}

/// The state of a command whose streams are ports.
pub(crate) struct Pump<'a> {
    setup: PumpSetup<'a>,
    outputs: [Output; 2],
    /// On its way to the guest.
    input: Vec<u8>,
    is_input_open: bool,
    exit: Option<ExitStatus>,
    /// The number of answers in a row that the output is closed, without a byte in between.
    quiet: u32,
    poll: Work<'a, Result<Channels, QmpError>>,
    polled_at: Instant,
    interval: Duration,
    requests: VecDeque<Request>,
    request: Work<'a, Answer>,
    held: HeldSession,
    status_at: Instant,
    /// When it was started; once it has begun, when that was.
    began: Instant,
    is_timed_out: bool,
    /// Whether the time is over, and the command was not signaled yet.
    asks_own_exit: bool,
    own_exit: Option<ExitStatus>,
    signaled: Option<ProcessSignal>,
    kill_at: Option<Instant>,
    give_up_at: Option<Instant>,
}

impl<'a> Pump<'a> {
    pub(crate) fn new(setup: PumpSetup<'a>, held: HeldSession) -> Self {
        let now = Instant::now();
        let output = |is_read| Output { is_read, has_begun: !is_read, ..Output::default() };
        Self {
            outputs: [output(true), output(!setup.is_merged)],
            input: Vec::new(),
            is_input_open: setup.streams.has_input(),
            exit: None,
            quiet: 0,
            poll: None,
            polled_at: now,
            interval: limits::MAX_EXEC_POLL,
            requests: VecDeque::new(),
            request: None,
            held,
            status_at: now + limits::EXEC_STATUS_INTERVAL,
            began: now,
            is_timed_out: false,
            asks_own_exit: false,
            own_exit: None,
            signaled: None,
            kill_at: None,
            give_up_at: None,
            setup,
        }
    }

    /// Returns how many bytes of standard output and standard error were passed on.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [self.outputs[0].bytes, self.outputs[1].bytes]
    }

    /// Passes bytes on until the command has ended.
    pub(crate) async fn run(&mut self) -> Result<PumpEnd, PortError> {
        let PumpSetup { ports, streams, .. } = self.setup;
        loop {
            if let Some(end) = self.end() {
                return Ok(end);
            }
            self.start_work();
            let [reads_out, reads_err] = [0, 1].map(|index| self.outputs[index].pending.is_none());
            let [writes_out, writes_err] = [!reads_out, !reads_err];
            let reads_input = self.is_input_open && self.has_begun() && self.input.is_empty();
            let timer = self.timer();
            tokio::select! {
                bytes = ports.read(GuestStream::Out), if reads_out => if !self.received(0, bytes?) { return Ok(PumpEnd::Closed) },
                bytes = ports.read(GuestStream::Err), if reads_err && !self.setup.is_merged => {
                    if !self.received(1, bytes?) { return Ok(PumpEnd::Closed) }
                }
                is_read = streams.writable(GuestStream::Out), if writes_out => self.pass_on(0, is_read),
                is_read = streams.writable(GuestStream::Err), if writes_err => self.pass_on(1, is_read),
                bytes = streams.read(), if reads_input => self.typed(bytes),
                sent = ports.write(&self.input), if !self.input.is_empty() => self.sent(sent?),
                signal = streams.signal() => self.signal(signal),
                channels = working(&mut self.poll), if self.poll.is_some() => {
                    self.poll = None;
                    if let Some(end) = self.polled(channels)? { return Ok(end) }
                }
                answer = working(&mut self.request), if self.request.is_some() => {
                    self.request = None;
                    if let Some(end) = self.answered(answer)? { return Ok(end) }
                }
                () = sleep_until(timer) => self.tick(),
            }
        }
    }

    fn has_begun(&self) -> bool {
        self.outputs.iter().all(|output| output.has_begun)
    }

    /// Returns how the command ended, once it has.
    fn end(&self) -> Option<PumpEnd> {
        if self.give_up_at.is_some_and(|at| Instant::now() >= at) {
            return Some(match (self.signaled, self.is_timed_out) {
                (Some(signal), false) => PumpEnd::Interrupted(self.exit, signal),
                (_, true) => PumpEnd::TimedOut { own_exit: self.own_exit },
                (None, false) => PumpEnd::Silent,
            });
        }
        let (exit, is_over) = (self.exit?, self.quiet >= 2 && self.has_begun());
        match (self.signaled, self.is_timed_out) {
            _ if !is_over => None,
            (_, true) => Some(PumpEnd::TimedOut { own_exit: self.own_exit }),
            (Some(signal), false) => Some(PumpEnd::Interrupted(Some(exit), signal)),
            (None, false) => Some(PumpEnd::Exited(exit)),
        }
    }

    /// Starts the next question to QEMU, and the next request to the agent, where it is time.
    fn start_work(&mut self) {
        let now = Instant::now();
        if self.poll.is_none() && now >= self.polled_at + self.interval {
            self.poll = Some(Box::pin(Channels::query(self.setup.vm)));
        }
        if self.request.is_none()
            && let Some(request) = self.requests.pop_front()
        {
            let PumpSetup { agent, pid, nonce, .. } = self.setup;
            // Others take the agent for themselves.
            let mut held = std::mem::take(&mut self.held);
            self.request = Some(Box::pin(async move {
                if request != Request::Status {
                    drop(std::mem::take(&mut held));
                }
                let answer = match request {
                    Request::Status => agent.state(&mut held, pid, limits::MAX_AGENT_REPLY_BYTES).await.map(Some),
                    Request::Signal(signal) => agent.signal(signal, pid).await.map(|()| None),
                    Request::Sweep => agent.sweep(nonce).await.map(|()| None),
                };
                (request, answer)
            }));
        }
    }

    /// Returns when something is to be done next.
    fn timer(&self) -> Instant {
        let poll = self.poll.is_none().then_some(self.polled_at + self.interval);
        let deadline = self.setup.deadline.filter(|_| !self.is_timed_out);
        let times = [poll, deadline, self.kill_at, self.give_up_at, Some(self.status_at)];
        times.into_iter().flatten().min().unwrap_or(self.status_at)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if !self.is_timed_out && self.setup.deadline.is_some_and(|deadline| now >= deadline) {
            (self.is_timed_out, self.asks_own_exit) = (true, true);
            self.own_exit = self.exit;
            // A process that has exited already is not ended by the signal.
            self.requests.extend([Request::Status, Request::Signal(ProcessSignal::Term)]);
            self.kill_at = Some(now + self.setup.kill_after);
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill();
        }
        if now >= self.status_at {
            self.status_at = now + limits::EXEC_STATUS_INTERVAL;
            let needs_status = !self.has_begun() || self.quiet > 0 || self.is_timed_out;
            if needs_status && self.exit.is_none() && self.requests.is_empty() && self.request.is_none() {
                self.requests.push_back(Request::Status);
            }
            if !self.has_begun() && self.give_up_at.is_none() && now >= self.began + limits::EXEC_START_TIMEOUT {
                self.kill();
            }
        }
    }

    fn kill(&mut self) {
        self.kill_at = None;
        self.requests.extend([Request::Signal(ProcessSignal::Kill), Request::Sweep]);
        self.give_up_at = Some(Instant::now() + limits::EXEC_GIVE_UP);
    }

    /// Takes a signal of the user.
    fn signal(&mut self, signal: ProcessSignal) {
        self.signaled = Some(signal);
        match signal {
            ProcessSignal::Int => self.requests.push_back(Request::Signal(signal)),
            ProcessSignal::Term => {
                self.requests.push_back(Request::Signal(signal));
                self.kill_at.get_or_insert(Instant::now() + self.setup.kill_after);
            }
            ProcessSignal::Kill => self.kill(),
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
        if !bytes.is_empty() {
            self.outputs[index].pending.get_or_insert_default().extend(bytes);
        }
        true
    }

    fn pass_on(&mut self, index: usize, is_read: bool) {
        let output = &mut self.outputs[index];
        let Some(bytes) = output.pending.take() else { return };
        output.is_read &= is_read;
        output.bytes += bytes.len() as u64;
        if output.is_read {
            let stream = if index == 0 { GuestStream::Out } else { GuestStream::Err };
            self.setup.streams.write(stream, bytes);
        }
    }

    /// Takes input of the user.
    fn typed(&mut self, bytes: Vec<u8>) {
        if bytes.is_empty() {
            self.is_input_open = false;
            self.setup.ports.end_input();
        }
        self.input = bytes;
    }

    fn sent(&mut self, length: usize) {
        if length == 0 {
            // Nothing reads it any more.
            (self.is_input_open, self.input) = (false, Vec::new());
        } else {
            self.input.drain(..length);
        }
    }

    /// Takes the answer of QEMU.
    fn polled(&mut self, channels: Result<Channels, QmpError>) -> Result<Option<PumpEnd>, PortError> {
        self.polled_at = Instant::now();
        self.held.release_if_due();
        let channels = match channels {
            Ok(channels) => channels,
            Err(error) if error.is_connection_loss() => return Ok(Some(PumpEnd::Closed)),
            Err(error) => {
                tracing::debug!(%error, "cannot query the channels");
                self.interval = limits::MAX_EXEC_POLL;
                return Ok(None);
            }
        };
        if channels.has_open_output(self.setup.set) || !self.is_passed_on() {
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
        if self.exit.is_none() && self.quiet == 2 && self.request.is_none() {
            self.requests.push_back(Request::Status);
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

    /// Returns whether the caller has everything that was received.
    fn is_passed_on(&self) -> bool {
        self.outputs.iter().all(|output| output.pending.is_none())
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
    fn answered(&mut self, (request, answer): Answer) -> Result<Option<PumpEnd>, PortError> {
        match (request, answer) {
            (Request::Status, Ok(Some(ProcessState::Known(status)))) => {
                let Some(exit) = status.exit else {
                    self.asks_own_exit = false;
                    return Ok(None);
                };
                self.exit = Some(exit);
                if self.asks_own_exit {
                    self.own_exit = Some(exit);
                }
                if !self.has_begun() {
                    self.read_rest()?;
                }
                let has_failed = !self.has_begun() && (!status.stderr.is_empty() || exit != ExitStatus::Code(0));
                return Ok(has_failed.then(|| self.not_started(status)));
            }
            (Request::Status, Ok(_)) if self.exit.is_none() => return Ok(Some(PumpEnd::Lost(None))),
            (Request::Status, Err(AgentError::Closed)) => return Ok(Some(PumpEnd::Closed)),
            (Request::Status, Err(error)) if self.quiet >= 2 => return Ok(Some(PumpEnd::Lost(Some(error)))),
            (Request::Signal(_), Ok(_)) => self.asks_own_exit = false,
            (_, Err(error)) => tracing::warn!(%error, ?request, "the guest agent failed"),
            (_, Ok(_)) => {}
        }
        Ok(None)
    }

    /// Returns the end of a process that has exited without having begun: by its own fault, or ours.
    fn not_started(&self, status: CommandStatus) -> PumpEnd {
        let is_ended = ExecFailure::from_stderr(self.setup.nonce, &status.stderr).is_none();
        match self.signaled {
            _ if is_ended && self.is_timed_out => PumpEnd::TimedOut { own_exit: None },
            Some(signal) if is_ended => PumpEnd::Interrupted(None, signal),
            _ => PumpEnd::NotStarted(status),
        }
    }
}

impl Output {
    /// Returns what of `bytes` the command has written: all after the line with its nonce.
    fn after_head(&mut self, bytes: Vec<u8>, first_line: &[u8]) -> Vec<u8> {
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

/// Waits for work that is going on.
async fn working<T>(work: &mut Work<'_, T>) -> T {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
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
