//! Freezing the file systems of a guest while its disks are copied, so that a copy has what programs have written.
//!
//! A guest must not stay frozen: whatever fails, it is thawed. That it is frozen is part of the pending work that is
//! committed before, so that the next operation thaws it if the process is killed.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::guest::AgentCommand;
use maqet_domain::port::{AgentError, AgentSession};
use maqet_domain::vm::{RunPaths, VmEntry, VmName};
use tokio::time::{Instant, sleep};

use super::agent::Agent;
use super::channels::Channels;
use crate::{App, limits};

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
            Self::Frozen { .. } => Explanation::new("guest.agent-conflict", Fault::State)
                .hint("wait until the backup that froze them has ended, or thaw them in the guest: `fsfreeze -u /`"),
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
    session: Box<dyn AgentSession>,
    vm: VmName,
}

impl<'a> Frozen<'a> {
    /// Freezes the file systems of the guest of a run; they are thawed again if that fails.
    ///
    /// Errors: `NoAgent`, `Frozen`, `NotFrozen`.
    pub(crate) async fn freeze(app: &'a App, entry: &VmEntry, paths: &'a RunPaths) -> Result<Self, QuiesceError> {
        let vm = entry.name.clone();
        let agent = Agent { agents: &*app.ports.agents, paths };
        let failed = |source| match source {
            AgentError::NoChannel | AgentError::Unresponsive { .. } => {
                QuiesceError::NoAgent { vm: entry.name.clone(), source }
            }
            source => QuiesceError::NotFrozen { vm: entry.name.clone(), source },
        };
        let mut session = agent.session(limits::AGENT_TIMEOUT).await.map_err(failed)?;
        if is_frozen(&mut *session).await.map_err(failed)? {
            return Err(QuiesceError::Frozen { vm });
        }
        let freeze = AgentCommand::new("guest-fsfreeze-freeze");
        let frozen = session.execute(&freeze, limits::MAX_AGENT_REPLY_BYTES, limits::FREEZE_TIMEOUT).await;
        let this = Self { agent, session, vm };
        match frozen {
            Ok(_) => Ok(this),
            Err(source) => {
                // Some may be frozen, or all of them a moment later.
                if let Err(error) = this.thaw().await {
                    tracing::warn!(%error, "could not thaw the file systems of a guest");
                }
                Err(QuiesceError::NotFrozen { vm: entry.name.clone(), source })
            }
        }
    }

    /// Thaws the file systems, trying again for a while.
    pub(crate) async fn thaw(self) -> Result<(), QuiesceError> {
        let Self { agent, session, vm } = self;
        let until = Instant::now() + limits::THAW_TIMEOUT;
        let mut session = Some(session);
        loop {
            let thawed = thaw_once(agent, session.take()).await;
            match thawed {
                // Of a VM that has stopped, there are none any more.
                Ok(()) | Err(AgentError::Closed | AgentError::NoChannel) => return Ok(()),
                Err(source) if Instant::now() >= until => return Err(QuiesceError::NotThawed { vm, source }),
                Err(error) => tracing::debug!(%error, "could not thaw the file systems of a guest"),
            }
            sleep(limits::THAW_INTERVAL).await;
        }
    }
}

/// Thaws what a killed process left frozen; returns whether it was. A failure is only logged, as the VM must be stoppable.
pub(crate) async fn thaw_left_over(app: &App, entry: &VmEntry) -> bool {
    let Some(run) = entry.open_run() else { return false };
    let has_agent = Channels::of_run(&*app.ports.monitors, &run.paths).await.map(|channels| channels.agent());
    if !matches!(has_agent, Ok(Some(true))) {
        return false;
    }
    let agent = Agent { agents: &*app.ports.agents, paths: &run.paths };
    let thawed = async {
        let mut session = agent.session(limits::AGENT_TIMEOUT).await?;
        if !is_frozen(&mut *session).await? {
            return Ok(false);
        }
        thaw_once(agent, Some(session)).await.map(|()| true)
    };
    match thawed.await {
        Ok(is_thawed) => is_thawed,
        Err(error) => {
            tracing::warn!(vm = %entry.name, %error, "could not thaw the file systems of the guest");
            false
        }
    }
}

async fn thaw_once(agent: Agent<'_>, session: Option<Box<dyn AgentSession>>) -> Result<(), AgentError> {
    let mut session = match session {
        Some(session) => session,
        None => agent.session(limits::AGENT_TIMEOUT).await?,
    };
    let thaw = AgentCommand::new("guest-fsfreeze-thaw");
    session.execute(&thaw, limits::MAX_AGENT_REPLY_BYTES, limits::FREEZE_TIMEOUT).await.map(drop)
}

async fn is_frozen(session: &mut dyn AgentSession) -> Result<bool, AgentError> {
    let status = AgentCommand::new("guest-fsfreeze-status");
    let reply = session.execute(&status, limits::MAX_AGENT_REPLY_BYTES, limits::AGENT_TIMEOUT).await?;
    Ok(reply.as_str() == Some(FROZEN))
}
