//! What is requested of the guest while a command runs: how it is, signals, and its end once its time is over.
//!
//! One request goes on at a time, beside everything else: a guest that answers slowly must not keep a timeout or a signal
//! from its effect.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use maqet_domain::guest::{ExitStatus, GuestTool, Nonce, PortSet, ProcessSignal, TerminalSize, had_exited};
use maqet_domain::port::AgentError;
use tokio::time::Instant;

use super::agent::{Agent, HeldSession, ProcessState};
use super::by_ssh::Ssh;
use super::pump::PumpEnd;
use super::request::ExecRequest;
use crate::limits;

/// Work that goes on beside other work.
pub(crate) type Work<'a, T> = Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>;

/// Waits for work that is going on.
pub(crate) async fn working<T>(work: &mut Work<'_, T>) -> T {
    match work {
        Some(work) => work.await,
        None => pending().await,
    }
}

/// By what tools are run in the guest, beside a command.
#[derive(Clone, Copy)]
pub(crate) enum Tools<'a> {
    /// By the agent, which also knows how the command is.
    Agent(Agent<'a>),
    /// By another connection of ssh(1).
    Ssh(Ssh<'a>),
}

impl Tools<'_> {
    /// Runs a tool and waits until it has exited; returns how, if it has, or what failed.
    async fn run(self, tool: &GuestTool) -> Result<Option<ExitStatus>, String> {
        match self {
            Tools::Agent(agent) => agent.run(tool).await.map_err(|error| error.to_string()),
            Tools::Ssh(ssh) => ssh.run_tool(tool).await.map(Some),
        }
    }
}

/// A request about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Status,
    /// SIGTERM, since the time of the command is over.
    TimeOut,
    Signal(ProcessSignal),
    Resize(TerminalSize),
    Sweep,
}

/// What the agent answered.
pub(crate) enum Answer {
    /// How the command is.
    State(Result<ProcessState, AgentError>),
    /// The process had exited when its time was over.
    HadExited,
    /// What was requested was done, or failed.
    Done,
}

/// A command that was started.
#[derive(Clone, Copy)]
pub(crate) struct Started<'a> {
    pub(crate) tools: Tools<'a>,
    pub(crate) pid: i64,
    pub(crate) nonce: &'a Nonce,
    pub(crate) set: Option<PortSet>,
    pub(crate) has_terminal: bool,
    /// Of the reply to a request for its state.
    pub(crate) reply_limit: usize,
}

/// The requests about a running command, and when they are due.
pub(crate) struct Control<'a> {
    started: Started<'a>,
    held: HeldSession,
    unsent: VecDeque<Request>,
    request: Work<'a, (Answer, HeldSession)>,
    deadline: Option<Instant>,
    kill_after: Duration,
    kill_at: Option<Instant>,
    give_up_at: Option<Instant>,
    is_timed_out: bool,
    /// Whether the process itself had exited when its time was over.
    had_exited: bool,
    /// The last signal of the user.
    signaled: Option<ProcessSignal>,
}

impl<'a> Control<'a> {
    pub(crate) fn new(started: Started<'a>, held: HeldSession, request: &ExecRequest) -> Self {
        Self {
            started,
            held,
            unsent: VecDeque::new(),
            request: None,
            deadline: request.deadline,
            kill_after: request.kill_after,
            kill_at: None,
            give_up_at: None,
            is_timed_out: false,
            had_exited: false,
            signaled: None,
        }
    }

    /// Returns how the command ended whose process exited so, or is not known to have exited; `None` if nothing ended it
    /// but itself.
    pub(crate) fn end(&self, exit: Option<ExitStatus>) -> Option<PumpEnd> {
        match (self.is_timed_out, self.signaled) {
            (true, _) => Some(PumpEnd::TimedOut { own_exit: exit.filter(|_| self.had_exited) }),
            // What ended then is the program that makes the terminal.
            (false, Some(ProcessSignal::Hup)) if self.started.has_terminal => {
                Some(PumpEnd::Interrupted(None, ProcessSignal::Hup))
            }
            (false, Some(signal)) => Some(PumpEnd::Interrupted(exit, signal)),
            (false, None) => None,
        }
    }

    /// Returns whether the time of the command was over.
    pub(crate) const fn is_timed_out(&self) -> bool {
        self.is_timed_out
    }

    /// Returns whether the command did not end in time after it was killed.
    pub(crate) fn has_given_up(&self) -> bool {
        self.give_up_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Returns whether the command was killed.
    pub(crate) const fn is_killing(&self) -> bool {
        self.give_up_at.is_some()
    }

    /// Returns whether nothing is requested.
    pub(crate) fn is_idle(&self) -> bool {
        self.request.is_none() && self.unsent.is_empty()
    }

    /// Returns when something is due.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        let deadline = self.deadline.filter(|_| !self.is_timed_out);
        [deadline, self.kill_at, self.give_up_at].into_iter().flatten().min()
    }

    /// Requests what is due; `has_exited` if the process is known to have exited.
    pub(crate) fn tick(&mut self, has_exited: bool) {
        let now = Instant::now();
        if !self.is_timed_out && self.deadline.is_some_and(|deadline| now >= deadline) {
            (self.is_timed_out, self.had_exited) = (true, has_exited);
            self.unsent.push_back(Request::TimeOut);
            self.kill_at = Some(now + self.kill_after);
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill();
        }
    }

    /// Requests how the command is, of the agent that has started it.
    pub(crate) fn ask_state(&mut self) {
        self.unsent.push_back(Request::Status);
    }

    /// Sends a signal that is not one of the user.
    pub(crate) fn send(&mut self, signal: ProcessSignal) {
        self.unsent.push_back(Request::Signal(signal));
    }

    /// Sets the size of the terminal of the command.
    pub(crate) fn resize(&mut self, size: TerminalSize) {
        self.unsent.retain(|request| !matches!(request, Request::Resize(_)));
        self.unsent.push_back(Request::Resize(size));
    }

    /// Takes a signal of the user.
    pub(crate) fn signal(&mut self, signal: ProcessSignal) {
        self.signaled = Some(signal);
        match signal {
            ProcessSignal::Int | ProcessSignal::Pipe => self.send(signal),
            ProcessSignal::Hup | ProcessSignal::Term => {
                self.send(signal);
                self.kill_at.get_or_insert(Instant::now() + self.kill_after);
            }
            ProcessSignal::Kill => self.kill(),
        }
    }

    /// Kills everything that belongs to the command.
    pub(crate) fn kill(&mut self) {
        self.kill_at = None;
        self.unsent.extend([Request::Signal(ProcessSignal::Kill), Request::Sweep]);
        let give_up = match self.started.tools {
            Tools::Agent(_) => limits::EXEC_GIVE_UP,
            Tools::Ssh(_) => limits::SSH_GIVE_UP,
        };
        self.give_up_at.get_or_insert(Instant::now() + give_up);
    }

    /// Releases the session with the agent if it is time.
    pub(crate) fn release_if_due(&mut self) {
        self.held.release_if_due();
    }

    /// Starts the next request unless one is going on.
    pub(crate) fn start_next(&mut self) {
        if self.request.is_some() {
            return;
        }
        let Some(request) = self.unsent.pop_front() else { return };
        let Started { tools, pid, nonce, set, has_terminal, reply_limit } = self.started;
        let on_terminal = has_terminal.then_some(nonce);
        let mut held = std::mem::take(&mut self.held);
        self.request = Some(Box::pin(async move {
            let tool = match request {
                Request::Status => None,
                Request::TimeOut => Some(GuestTool::signal(ProcessSignal::Term, pid, on_terminal)),
                Request::Signal(signal) => Some(GuestTool::signal(signal, pid, on_terminal)),
                Request::Resize(size) => Some(GuestTool::resize(nonce, size)),
                Request::Sweep => Some(GuestTool::sweep(nonce, set)),
            };
            let Some(tool) = tool else {
                let answer = match tools {
                    Tools::Agent(agent) => Answer::State(agent.state(&mut held, pid, reply_limit).await),
                    Tools::Ssh(_) => Answer::Done,
                };
                return (answer, held);
            };
            // Others take the agent for themselves.
            drop(held);
            let answer = match tools.run(&tool).await {
                Ok(Some(exit)) if request == Request::TimeOut && had_exited(exit) => Answer::HadExited,
                Ok(_) => Answer::Done,
                Err(error) => {
                    tracing::warn!(error, ?request, "cannot control the command in the guest");
                    Answer::Done
                }
            };
            (answer, HeldSession::default())
        }));
    }

    /// Waits for the answer to the request that is going on; forever without one. Cancel-safe.
    pub(crate) async fn answer(&mut self) -> Answer {
        let (answer, held) = working(&mut self.request).await;
        (self.request, self.held) = (None, held);
        self.had_exited |= matches!(answer, Answer::HadExited);
        answer
    }
}
