//! Freezing the file systems of a guest while its disks are copied, so that a copy has what programs have written.
//!
//! A guest must not stay frozen: whatever fails, it is thawed. That it is frozen is part of the pending work that is
//! committed before, so that the next operation thaws it if the process is killed.

use jiff::Timestamp;
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::guest::AgentCommand;
use maqet_domain::port::{AgentError, AgentSession};
use maqet_domain::qmp::wording::is_command_disabled;
use maqet_domain::vm::{VmEntry, VmName};
use tokio::time::{Instant, sleep};

use super::agent::Agent;
use super::error::ExecError;
use crate::vm::monitor::Monitored;
use crate::{App, Error, limits};

/// What the agent says when the file systems are frozen.
const FROZEN: &str = "frozen";

/// Why the file systems of a guest were not frozen, or not thawed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum QuiesceError {
    #[error("no guest agent of VM `{vm}` answers, which could freeze its file systems")]
    NoAgent { vm: VmName, source: AgentError },
    #[error("the file systems of VM `{vm}` are frozen already")]
    Frozen { vm: VmName },
    #[error("cannot freeze the file systems of VM `{vm}`")]
    NotFrozen { vm: VmName, source: AgentError },
    #[error("cannot thaw the file systems of VM `{vm}`")]
    NotThawed { vm: VmName, source: AgentError },
    #[error("`quiesce` is for snapshots of one drive of a running VM")]
    Unsupported,
}

impl Explain for QuiesceError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoAgent { vm, .. } => Explanation::new("guest.agent-unavailable", Fault::State)
                .hint(format!("wait until it has booted: `maqet wait {vm} --for agent`"))
                .hint("install the agent in the guest: `apt install qemu-guest-agent`"),
            Self::Frozen { vm } => Explanation::new("guest.agent-conflict", Fault::State)
                .hint("wait until the backup that froze them has ended")
                .hint(format!("reset the guest, if none goes on: `maqet reset {vm}`")),
            Self::NotFrozen { source, .. } => source.explain(),
            Self::NotThawed { vm, .. } => Explanation::new("guest.thaw-failed", Fault::Failed)
                .hint(format!("run it again, which thaws them first; or reset the guest: `maqet reset {vm}`")),
            Self::Unsupported => Explanation::new("guest.quiesce-unsupported", Fault::Usage)
                .hint("pass `--live` and the name of a drive; a snapshot with memory needs no frozen file systems"),
        }
    }
}

/// A guest whose file systems are frozen; others wait for its agent meanwhile.
pub(crate) struct Frozen<'a> {
    agent: Agent<'a>,
    /// One that is of use still.
    session: Option<Box<dyn AgentSession>>,
    vm: VmName,
}

impl<'a> Frozen<'a> {
    /// Freezes the file systems of the guest of a run; they are thawed again if that fails.
    ///
    /// Errors: `NoAgent`, `Frozen`, `NotFrozen`; `NotThawed`, if some may be frozen.
    pub(crate) async fn freeze(agent: Agent<'a>, vm: &VmName) -> Result<Self, QuiesceError> {
        let failed = |source| match source {
            AgentError::NoChannel | AgentError::Unresponsive { .. } => QuiesceError::NoAgent { vm: vm.clone(), source },
            source => QuiesceError::NotFrozen { vm: vm.clone(), source },
        };
        let mut session = agent.session(limits::AGENT_TIMEOUT).await.map_err(failed)?;
        if is_frozen(&mut *session).await.map_err(failed)? {
            return Err(QuiesceError::Frozen { vm: vm.clone() });
        }
        let freeze = AgentCommand::new("guest-fsfreeze-freeze");
        let frozen = session.execute(&freeze, limits::MAX_AGENT_REPLY_BYTES, limits::FREEZE_TIMEOUT).await;
        let Err(source) = frozen else { return Ok(Self { agent, session: Some(session), vm: vm.clone() }) };
        let is_disabled = matches!(&source, AgentError::Refused { class, description, .. } if is_command_disabled(class, description));
        if !is_disabled {
            tracing::debug!(error = %source, "could not freeze the file systems of a guest");
            // Some may be frozen, or all of them a moment later.
            let session = matches!(source, AgentError::Refused { .. }).then_some(session);
            Self { agent, session, vm: vm.clone() }.thaw().await?;
        }
        Err(QuiesceError::NotFrozen { vm: vm.clone(), source })
    }

    /// Thaws the file systems, trying again for a while.
    ///
    /// Errors: `NotThawed`.
    pub(crate) async fn thaw(self) -> Result<(), QuiesceError> {
        let Self { agent, mut session, vm } = self;
        let until = Instant::now() + limits::THAW_TIMEOUT;
        loop {
            match thaw_once(agent, session.take()).await {
                // Of a VM that has stopped, there are none any more.
                Ok(()) | Err(AgentError::Closed | AgentError::NoChannel) => return Ok(()),
                Err(source) if Instant::now() >= until => return Err(QuiesceError::NotThawed { vm, source }),
                Err(error) => tracing::debug!(%error, "could not thaw the file systems of a guest"),
            }
            sleep(limits::THAW_INTERVAL).await;
        }
    }
}

/// Thaws what a process left frozen that began at `since` and was killed, trying again for a while; returns whether it was.
///
/// Errors: `NotThawed`; the process of the VM is stopped by a signal.
pub(crate) async fn thaw_left_over(app: &App, entry: &VmEntry, since: Timestamp) -> Result<bool, Error> {
    // A guest that was started since has nothing frozen.
    let Some(run) = entry.open_run().filter(|run| run.started_at <= since) else { return Ok(false) };
    let agent = Agent { agents: &*app.ports.agents, paths: &run.paths };
    let until = Instant::now() + limits::THAW_TIMEOUT;
    loop {
        if Monitored::live(app, entry).await?.is_none() {
            return Ok(false);
        }
        match thaw_if_frozen(agent).await {
            Ok(is_thawed) => return Ok(is_thawed),
            Err(AgentError::NoChannel) => return Ok(false),
            Err(source) if Instant::now() >= until => {
                return Err(ExecError::from(QuiesceError::NotThawed { vm: entry.name.clone(), source }).into());
            }
            Err(error) => tracing::debug!(%error, "could not thaw the file systems of a guest"),
        }
        sleep(limits::THAW_INTERVAL).await;
    }
}

/// Returns whether the file systems were frozen.
async fn thaw_if_frozen(agent: Agent<'_>) -> Result<bool, AgentError> {
    let mut session = agent.session(limits::AGENT_TIMEOUT).await?;
    if !is_frozen(&mut *session).await? {
        return Ok(false);
    }
    thaw_once(agent, Some(session)).await.map(|()| true)
}

async fn thaw_once(agent: Agent<'_>, session: Option<Box<dyn AgentSession>>) -> Result<(), AgentError> {
    let mut session = match session {
        Some(session) => session,
        None => agent.session(limits::AGENT_TIMEOUT).await?,
    };
    let thaw = AgentCommand::new("guest-fsfreeze-thaw");
    match session.execute(&thaw, limits::MAX_AGENT_REPLY_BYTES, limits::FREEZE_TIMEOUT).await {
        // As of an agent that cannot freeze either.
        Err(refused @ AgentError::Refused { .. }) => match is_frozen(&mut *session).await {
            Ok(false) => Ok(()),
            _ => Err(refused),
        },
        thawed => thawed.map(drop),
    }
}

async fn is_frozen(session: &mut dyn AgentSession) -> Result<bool, AgentError> {
    let status = AgentCommand::new("guest-fsfreeze-status");
    let reply = session.execute(&status, limits::MAX_AGENT_REPLY_BYTES, limits::AGENT_TIMEOUT).await?;
    Ok(reply.as_str() == Some(FROZEN))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use maqet_domain::port::{MockAgentSession, MockGuestAgents};
    use maqet_domain::vm::RunPaths;
    use serde_json::json;

    use super::*;

    /// What an agent answers: the status of the file systems, and what it refuses, each with a reason.
    type Refusals = &'static [(&'static str, &'static str)];

    /// Freezes, and returns the error and the commands that were sent.
    async fn freeze(status_after: &'static str, refusals: Refusals) -> (QuiesceError, Vec<&'static str>) {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        let mut agents = MockGuestAgents::new();
        agents.expect_session().returning(move |_, _| {
            let log = Arc::clone(&log);
            let mut session = MockAgentSession::new();
            session.expect_execute().returning(move |command, _, _| {
                let mut log = log.lock().unwrap();
                let status = if log.is_empty() { "thawed" } else { status_after };
                log.push(command.execute);
                let refused = refusals.iter().find(|(refused, _)| *refused == command.execute);
                match refused {
                    Some((_, reason)) => Err(AgentError::Refused {
                        command: command.execute,
                        class: "GenericError".to_owned(),
                        description: (*reason).to_owned(),
                    }),
                    None => Ok(json!(status)),
                }
            });
            Ok(Box::new(session))
        });
        let paths = RunPaths { sockets: "/r".into(), records: "/s".into() };
        let frozen = Frozen::freeze(Agent { agents: &agents, paths: &paths }, &"v".parse().unwrap()).await;
        let error = frozen.err().unwrap();
        let sent = std::mem::take(&mut *sent.lock().unwrap());
        (error, sent)
    }

    const DISABLED: &str = "Command guest-fsfreeze-freeze has been disabled: the command is not allowed";
    const UNSUPPORTED: &str = "this feature or command is not currently supported";
    const STATUS: &str = "guest-fsfreeze-status";
    const FREEZE: &str = "guest-fsfreeze-freeze";
    const THAW: &str = "guest-fsfreeze-thaw";

    #[tokio::test(start_paused = true)]
    async fn test_guest_that_is_neither_frozen_nor_thawed_may_be_frozen() {
        let (error, sent) = freeze("frozen", &[(FREEZE, "a disk failed"), (THAW, "a disk failed")]).await;

        assert!(matches!(error, QuiesceError::NotThawed { .. }), "{error}");
        assert!(sent.iter().filter(|command| **command == THAW).count() > 10, "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn test_guest_that_cannot_freeze_is_not_frozen() {
        let (blocked, sent_to_blocked) = freeze("frozen", &[(FREEZE, DISABLED)]).await;
        let (old, sent_to_old) = freeze("thawed", &[(FREEZE, UNSUPPORTED), (THAW, UNSUPPORTED)]).await;

        assert!(matches!(blocked, QuiesceError::NotFrozen { .. }), "{blocked}");
        assert_eq!(sent_to_blocked, [STATUS, FREEZE]);
        assert!(matches!(old, QuiesceError::NotFrozen { .. }), "{old}");
        assert_eq!(sent_to_old, [STATUS, FREEZE, THAW, STATUS]);
    }
}
