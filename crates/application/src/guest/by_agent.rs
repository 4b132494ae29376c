//! A command whose input and output the agent passes on, each as a whole.

use std::collections::VecDeque;
use std::time::Duration;

use maqet_domain::guest::{ExecFailure, ExecWay, ExitStatus, GuestStream, ProcessSignal};
use maqet_domain::port::AgentError;
use tokio::time::{Instant, sleep_until};

use super::agent::{Agent, HeldSession, ProcessState};
use super::error::ExecError;
use super::pump::PumpEnd;
use super::request::ExecRequest;
use super::streams::ExecStreams;
use crate::vm::monitor::Monitored;
use crate::{Error, limits};

/// A command that has ended.
pub(crate) struct Ended {
    pub(crate) end: PumpEnd,
    /// Of standard output and standard error.
    pub(crate) bytes: [u64; 2],
    pub(crate) is_truncated: bool,
}

/// When a running command is signaled and given up, and what it was sent.
struct Ending {
    deadline: Option<Instant>,
    kill_after: Duration,
    kill_at: Option<Instant>,
    give_up_at: Option<Instant>,
    is_timed_out: bool,
    /// The last signal of the user.
    signaled: Option<ProcessSignal>,
    unsent: VecDeque<ProcessSignal>,
}

/// Runs a command.
pub(crate) async fn run(
    vm: &Monitored<'_>,
    agent: Agent<'_>,
    request: &ExecRequest,
    streams: &dyn ExecStreams,
) -> Result<Ended, Error> {
    let name = &vm.entry.name;
    let agent_error = |source| ExecError::Agent { vm: name.clone(), source };
    let input = match request.before_start(streams, whole_input(vm, streams)).await {
        Ok(input) => input?,
        Err(end) => return Ok(Ended::without_output(end)),
    };
    let session = match request.before_start(streams, agent.session(limits::AGENT_TIMEOUT)).await {
        Ok(session) => session.map_err(agent_error)?,
        Err(end) => return Ok(Ended::without_output(end)),
    };
    let start = request.command.start(&request.nonce, ExecWay::Agent, input.as_deref());
    let (pid, mut held) = HeldSession::start(session, &start).await.map_err(agent_error)?;
    let mut ending = Ending::new(request);
    let (mut interval, most) = limits::CAPTURE_POLLS;
    let mut next = Instant::now() + interval;
    let status = loop {
        tokio::select! {
            signal = streams.signal() => ending.request(signal),
            () = sleep_until(ending.next(next)) => ending.tick(),
        }
        while let Some(signal) = ending.unsent.pop_front() {
            held = HeldSession::default();
            if let Err(error) = agent.signal(signal, pid).await {
                tracing::warn!(%error, "cannot signal the command");
            }
        }
        if ending.give_up_at.is_some_and(|at| Instant::now() >= at) {
            return Ok(Ended::without_output(ending.end(None)));
        }
        if Instant::now() < next {
            continue;
        }
        match agent.state(&mut held, pid, limits::MAX_CAPTURED_REPLY_BYTES).await {
            Ok(ProcessState::Known(status)) if status.exit.is_some() => break status,
            Ok(ProcessState::Known(_)) => {}
            Ok(ProcessState::Unknown) => return Ok(Ended::without_output(PumpEnd::Lost(None))),
            Err(AgentError::Closed | AgentError::NoChannel) => return Ok(Ended::without_output(PumpEnd::Closed)),
            Err(error) => return Ok(Ended::without_output(PumpEnd::Lost(Some(error)))),
        }
        interval = (interval * 2).min(most);
        next = Instant::now() + interval;
    };
    if let Some(failure) = ExecFailure::from_stderr(&request.nonce, &status.stderr) {
        return Err(ExecError::of(failure, name, &request.command).into());
    }
    let bytes = [status.stdout.len() as u64, status.stderr.len() as u64];
    for (stream, output) in [(GuestStream::Out, status.stdout), (GuestStream::Err, status.stderr)] {
        if !output.is_empty() && streams.writable(stream).await {
            streams.write(stream, output);
        }
    }
    Ok(Ended { end: ending.end(status.exit), bytes, is_truncated: status.is_truncated })
}

impl Ended {
    pub(crate) fn without_output(end: PumpEnd) -> Self {
        Self { end, bytes: [0; 2], is_truncated: false }
    }
}

/// Reads the whole input, which the agent takes as one; `None` if the command has none.
async fn whole_input(vm: &Monitored<'_>, streams: &dyn ExecStreams) -> Result<Option<Vec<u8>>, Error> {
    if !streams.has_input() {
        return Ok(None);
    }
    let mut input = Vec::new();
    loop {
        let bytes = streams.read().await;
        if bytes.is_empty() {
            return Ok(Some(input));
        }
        input.extend(bytes);
        if input.len() > limits::MAX_CAPTURED_BYTES {
            return Err(ExecError::InputTooLarge { vm: vm.entry.name.clone() }.into());
        }
    }
}

impl Ending {
    fn new(request: &ExecRequest) -> Self {
        Self {
            deadline: request.deadline,
            kill_after: request.kill_after,
            kill_at: None,
            give_up_at: None,
            is_timed_out: false,
            signaled: None,
            unsent: VecDeque::new(),
        }
    }

    /// Returns when something is to be done: at `poll`, or earlier.
    fn next(&self, poll: Instant) -> Instant {
        let deadline = self.deadline.filter(|_| !self.is_timed_out);
        [Some(poll), deadline, self.kill_at, self.give_up_at].into_iter().flatten().min().unwrap_or(poll)
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if !self.is_timed_out && self.deadline.is_some_and(|deadline| now >= deadline) {
            self.is_timed_out = true;
            self.send(ProcessSignal::Term);
        } else if self.kill_at.is_some_and(|at| now >= at) {
            self.send(ProcessSignal::Kill);
        }
    }

    /// Takes a signal of the user.
    fn request(&mut self, signal: ProcessSignal) {
        self.signaled = Some(signal);
        self.send(signal);
    }

    fn send(&mut self, signal: ProcessSignal) {
        self.unsent.push_back(signal);
        match signal {
            ProcessSignal::Int => {}
            ProcessSignal::Term => self.kill_at = Some(Instant::now() + self.kill_after),
            ProcessSignal::Kill => {
                (self.kill_at, self.give_up_at) = (None, Some(Instant::now() + limits::EXEC_GIVE_UP));
            }
        }
    }

    fn end(&self, exit: Option<ExitStatus>) -> PumpEnd {
        match (self.is_timed_out, self.signaled, exit) {
            (true, ..) => PumpEnd::TimedOut { own_exit: None },
            (false, Some(signal), exit) => PumpEnd::Interrupted(exit, signal),
            (false, None, Some(exit)) => PumpEnd::Exited(exit),
            (false, None, None) => PumpEnd::Lost(None),
        }
    }
}
