//! Requests to the agent of a guest.

use std::time::Duration;

use maqet_domain::guest::{
    AgentCommand, AgentVersion, CommandStatus, ExitStatus, GuestInterface, GuestSystem, GuestTool, Nonce, PortSet,
    started_process,
};
use maqet_domain::port::{AgentError, AgentSession, GuestAgents};
use maqet_domain::qmp::wording::is_unknown_process;
use maqet_domain::vm::RunPaths;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::limits;

/// The agent of a guest.
#[derive(Clone, Copy)]
pub(crate) struct Agent<'a> {
    pub(crate) agents: &'a dyn GuestAgents,
    pub(crate) paths: &'a RunPaths,
}

/// A session that is kept for requests that follow soon; it is released when its time is over, or another process waits.
#[derive(Default)]
pub(crate) struct HeldSession {
    session: Option<Box<dyn AgentSession>>,
    until: Option<Instant>,
}

impl HeldSession {
    /// Starts a process; returns its number, and the session, which is worth keeping for a moment.
    pub(crate) async fn start(
        mut session: Box<dyn AgentSession>,
        command: &AgentCommand,
    ) -> Result<(i64, Self), AgentError> {
        let pid = start(&mut *session, command).await?;
        let mut held = Self { session: Some(session), until: Some(Instant::now() + limits::AGENT_HOLD) };
        held.release_if_due();
        Ok((pid, held))
    }

    /// Releases the session if another process waits for the agent, or the command takes long.
    pub(crate) fn release_if_due(&mut self) {
        let is_over = self.until.is_none_or(|until| Instant::now() >= until);
        self.session.take_if(|session| is_over || session.is_wanted());
    }
}

/// What is known about a process that the agent started.
#[derive(Debug)]
pub(crate) enum ProcessState {
    /// As the agent says.
    Known(CommandStatus),
    /// The agent does not know it, as after the guest was rebooted.
    Unknown,
}

impl Agent<'_> {
    /// Connects and synchronizes.
    pub(crate) async fn session(&self, timeout: Duration) -> Result<Box<dyn AgentSession>, AgentError> {
        self.agents.session(self.paths, timeout).await
    }

    /// Returns whether the agent answers.
    pub(crate) async fn answers(&self) -> bool {
        self.session(limits::AGENT_PROBE_TIMEOUT).await.is_ok()
    }

    /// Returns the state of a process; that of one that has exited is returned only once.
    ///
    /// `limit` is that of the reply, which holds the captured output.
    pub(crate) async fn state(
        &self,
        held: &mut HeldSession,
        pid: i64,
        limit: usize,
    ) -> Result<ProcessState, AgentError> {
        let mut session = match held.session.take() {
            Some(session) => session,
            None => self.session(limits::AGENT_TIMEOUT).await?,
        };
        let found = state(&mut *session, pid, limit).await?;
        held.session = Some(session);
        held.release_if_due();
        Ok(found)
    }

    /// Kills every process that was started with this nonce, or has the output of these ports open.
    pub(crate) async fn sweep(&self, nonce: &Nonce, set: Option<PortSet>) -> Result<(), AgentError> {
        self.run(&GuestTool::sweep(nonce, set)).await.map(drop)
    }

    /// Runs a tool and waits until it has exited; returns how, if it has.
    pub(crate) async fn run(&self, tool: &GuestTool) -> Result<Option<ExitStatus>, AgentError> {
        Ok(self.complete(&tool.request(), limits::AGENT_TOOL_POLLS).await?.and_then(|status| status.exit))
    }

    /// Runs a short program and waits until it has exited, for at most `polls` intervals; returns its last status, if it
    /// has.
    pub(crate) async fn complete(
        &self,
        command: &AgentCommand,
        polls: u32,
    ) -> Result<Option<CommandStatus>, AgentError> {
        complete(&mut *self.session(limits::AGENT_TIMEOUT).await?, command, polls).await
    }
}

/// Runs a short program as [`Agent::complete`] does.
pub(super) async fn complete(
    session: &mut dyn AgentSession,
    command: &AgentCommand,
    polls: u32,
) -> Result<Option<CommandStatus>, AgentError> {
    let pid = start(session, command).await?;
    for _ in 0..polls {
        match state(session, pid, limits::MAX_AGENT_REPLY_BYTES).await? {
            ProcessState::Known(status) if status.exit.is_some() => return Ok(Some(status)),
            ProcessState::Known(_) => sleep(limits::AGENT_TOOL_INTERVAL).await,
            ProcessState::Unknown => break,
        }
    }
    Ok(None)
}

/// What an agent says about its guest; what it does not say is left out.
pub(crate) struct GuestFacts {
    pub(crate) version: Option<AgentVersion>,
    pub(crate) hostname: Option<String>,
    pub(crate) system: Option<GuestSystem>,
    pub(crate) interfaces: Vec<GuestInterface>,
}

impl GuestFacts {
    /// Asks the agent, for so long; `None` if it does not answer.
    pub(crate) async fn read(agent: Agent<'_>) -> Option<Self> {
        let mut session = agent.session(limits::AGENT_PROBE_TIMEOUT).await.ok()?;
        let mut ask = async |command| {
            let command = AgentCommand::new(command);
            session.execute(&command, limits::MAX_AGENT_REPLY_BYTES, limits::AGENT_PROBE_TIMEOUT).await
        };
        let version = ask("guest-info").await.ok().as_ref().and_then(AgentVersion::from_reply);
        let system = ask("guest-get-osinfo").await.ok().as_ref().map(GuestSystem::from_reply);
        let hostname = ask("guest-get-host-name").await.ok().as_ref().and_then(hostname);
        let interfaces = ask("guest-network-get-interfaces").await.ok();
        let interfaces = interfaces.as_ref().map(GuestInterface::from_reply).unwrap_or_default();
        Some(Self { version, hostname, system, interfaces })
    }
}

fn hostname(reply: &Value) -> Option<String> {
    let name = reply.get("host-name")?.as_str()?;
    Some(name.chars().filter(|char| !char.is_control()).take(limits::MAX_HOSTNAME_CHARS).collect())
}

pub(super) async fn start(session: &mut dyn AgentSession, command: &AgentCommand) -> Result<i64, AgentError> {
    let reply = session.execute(command, limits::MAX_AGENT_REPLY_BYTES, limits::AGENT_TIMEOUT).await?;
    started_process(&reply).ok_or(AgentError::Unexpected { command: command.execute })
}

pub(super) async fn state(session: &mut dyn AgentSession, pid: i64, limit: usize) -> Result<ProcessState, AgentError> {
    let command = AgentCommand::exec_status(pid);
    match session.execute(&command, limit, limits::AGENT_TIMEOUT).await {
        Ok(reply) => {
            let status =
                CommandStatus::from_reply(&reply).ok_or(AgentError::Unexpected { command: command.execute })?;
            Ok(ProcessState::Known(status))
        }
        Err(AgentError::Refused { description, .. }) if is_unknown_process(&description) => Ok(ProcessState::Unknown),
        Err(error) => Err(error),
    }
}
