//! Freezing the file systems of a guest while its disks are copied, so that a copy has what programs have written.
//!
//! A guest must not stay frozen: whatever fails, it is thawed. That it is frozen is part of the pending work that is
//! committed before, so that the next operation thaws it if the process is killed. A process in the guest that was started
//! before thaws it by then, if no operation does.

use std::time::Duration;

use jiff::Timestamp;
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::guest::{
    AgentCommand, CommandStatus, ExitStatus, can_thaw_later, end_thaw_later, has_thawed, thaw_later,
};
use maqet_domain::port::{AgentError, AgentSession};
use maqet_domain::qmp::wording::is_command_disabled;
use maqet_domain::vm::{VmEntry, VmName};
use tokio::time::{Instant, sleep};

use super::agent::{self, Agent, ProcessState};
use super::error::ExecError;
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration, limits};

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
    #[error("the file systems of VM `{vm}` were thawed too early: the guest does so after {after}")]
    ThawedEarly { vm: VmName, after: HumanDuration },
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
            Self::ThawedEarly { .. } => Explanation::new("guest.freeze-timed-out", Fault::TimedOut)
                .hint("try again when host and guest have less to do")
                .hint("set a longer `timeouts.freeze` in `maqet.conf`"),
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
    /// The process in the guest that thaws them after `limit`, if the agent starts processes.
    timer: Option<i64>,
    limit: Duration,
}

impl<'a> Frozen<'a> {
    /// Checks that a guest can be frozen: its agent answers, and it is not frozen. Returns a warning if it would not thaw on
    /// its own.
    ///
    /// Errors: `NoAgent`, `Frozen`, `NotFrozen`.
    pub(crate) async fn check(agent: Agent<'_>, vm: &VmName) -> Result<Option<String>, QuiesceError> {
        let mut session = open_thawed(agent, vm).await?;
        let missing = match agent::complete(&mut *session, &can_thaw_later(), limits::AGENT_TOOL_POLLS).await {
            Ok(Some(CommandStatus { exit: Some(exit), .. })) if exit != ExitStatus::Code(0) => {
                "it has no `fsfreeze` (package `util-linux`)"
            }
            // On a guest that is slow, nothing is known.
            Ok(_) => return Ok(None),
            Err(AgentError::Refused { .. }) => "its agent refuses to run commands",
            Err(source) => return Err(not_frozen(vm, source)),
        };
        Ok(Some(format!("if maqet is killed meanwhile, the guest stays frozen until the next command: {missing}")))
    }

    /// Freezes the file systems of the guest of a run for at most `limit`; they are thawed again if that fails.
    ///
    /// Errors: `NoAgent`, `Frozen`, `NotFrozen`; `NotThawed`, if some may be frozen.
    pub(crate) async fn freeze(agent: Agent<'a>, vm: &VmName, limit: Duration) -> Result<Self, QuiesceError> {
        let mut session = open_thawed(agent, vm).await?;
        let timer = match agent::start(&mut *session, &thaw_later(limit)).await {
            Ok(timer) => Some(timer),
            Err(error @ AgentError::Refused { .. }) => {
                tracing::debug!(%error, "the guest does not thaw its file systems on its own");
                None
            }
            Err(source) => return Err(not_frozen(vm, source)),
        };
        let frozen = |session| Self { agent, session, vm: vm.clone(), timer, limit };
        let freeze = AgentCommand::new("guest-fsfreeze-freeze");
        let timeout = limits::FREEZE_TIMEOUT.min(limit);
        let result = session.execute(&freeze, limits::MAX_AGENT_REPLY_BYTES, timeout).await;
        let Err(source) = result else { return Ok(frozen(Some(session))) };
        let is_disabled = matches!(&source, AgentError::Refused { class, description, .. } if is_command_disabled(class, description));
        // One of no use after an error other than a refusal.
        let session = matches!(source, AgentError::Refused { .. }).then_some(session);
        if is_disabled {
            frozen(session).end_timer().await;
        } else {
            tracing::debug!(error = %source, "could not freeze the file systems of a guest");
            // Some may be frozen, or all of them a moment later.
            if let Err(error @ QuiesceError::NotThawed { .. }) = frozen(session).thaw().await {
                return Err(error);
            }
        }
        Err(not_frozen(vm, source))
    }

    /// Thaws the file systems, trying again for a while.
    ///
    /// Errors: `NotThawed`; `ThawedEarly`, if the guest has done so on its own.
    pub(crate) async fn thaw(mut self) -> Result<(), QuiesceError> {
        let until = Instant::now() + limits::THAW_TIMEOUT;
        loop {
            match thaw_once(self.agent, self.session.take()).await {
                Ok(session) => {
                    self.session = Some(session);
                    break;
                }
                // Of a VM that has stopped, there are none any more.
                Err(AgentError::Closed | AgentError::NoChannel) => return Ok(()),
                Err(source) if Instant::now() >= until => return Err(QuiesceError::NotThawed { vm: self.vm, source }),
                Err(error) => tracing::debug!(%error, "could not thaw the file systems of a guest"),
            }
            sleep(limits::THAW_INTERVAL).await;
        }
        let (vm, after) = (self.vm.clone(), HumanDuration::new(self.limit));
        if self.end_timer().await { Err(QuiesceError::ThawedEarly { vm, after }) } else { Ok(()) }
    }

    /// Ends the process that thaws them later; returns whether it has.
    async fn end_timer(self) -> bool {
        let (Some(timer), Some(mut session)) = (self.timer, self.session) else { return false };
        let ended = async {
            match agent::state(&mut *session, timer, limits::MAX_AGENT_REPLY_BYTES).await? {
                ProcessState::Known(CommandStatus { exit: Some(exit), .. }) => return Ok(has_thawed(exit)),
                ProcessState::Known(_) => agent::start(&mut *session, &end_thaw_later(Some(timer))).await?,
                ProcessState::Unknown => return Ok(false),
            };
            Ok::<_, AgentError>(false)
        };
        ended.await.unwrap_or_else(|error| {
            tracing::debug!(%error, "could not end a process in a guest that thaws its file systems");
            false
        })
    }
}

/// Connects to the agent of a guest whose file systems are not frozen.
async fn open_thawed(agent: Agent<'_>, vm: &VmName) -> Result<Box<dyn AgentSession>, QuiesceError> {
    let mut session = agent.session(limits::AGENT_TIMEOUT).await.map_err(|source| not_frozen(vm, source))?;
    if is_frozen(&mut *session).await.map_err(|source| not_frozen(vm, source))? {
        return Err(QuiesceError::Frozen { vm: vm.clone() });
    }
    Ok(session)
}

fn not_frozen(vm: &VmName, source: AgentError) -> QuiesceError {
    let vm = vm.clone();
    match source {
        AgentError::NoChannel | AgentError::Unresponsive { .. } => QuiesceError::NoAgent { vm, source },
        source => QuiesceError::NotFrozen { vm, source },
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

/// Returns whether the file systems were frozen; nothing in the guest thaws them later.
async fn thaw_if_frozen(agent: Agent<'_>) -> Result<bool, AgentError> {
    let mut session = agent.session(limits::AGENT_TIMEOUT).await?;
    let was_frozen = is_frozen(&mut *session).await?;
    if was_frozen {
        session = thaw_once(agent, Some(session)).await?;
    }
    // It would thaw what the next operation freezes.
    match agent::start(&mut *session, &end_thaw_later(None)).await {
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "could not end processes in a guest that thaw its file systems"),
    }
    Ok(was_frozen)
}

/// Returns the session, which is of use still.
async fn thaw_once(
    agent: Agent<'_>,
    session: Option<Box<dyn AgentSession>>,
) -> Result<Box<dyn AgentSession>, AgentError> {
    let mut session = match session {
        Some(session) => session,
        None => agent.session(limits::AGENT_TIMEOUT).await?,
    };
    let thaw = AgentCommand::new("guest-fsfreeze-thaw");
    match session.execute(&thaw, limits::MAX_AGENT_REPLY_BYTES, limits::FREEZE_TIMEOUT).await {
        // As of an agent that cannot freeze either.
        Err(refused @ AgentError::Refused { .. }) => match is_frozen(&mut *session).await {
            Ok(false) => Ok(session),
            _ => Err(refused),
        },
        Err(error) => Err(error),
        Ok(_) => Ok(session),
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
    use serde_json::{Value, json};

    use super::*;

    /// What an agent answers: the status of the file systems, and what it refuses, each with a reason.
    type Refusals = &'static [(&'static str, &'static str)];

    /// An agent, and the commands that it was sent.
    fn agent(status_after: &'static str, refusals: Refusals, timer: Value) -> (MockGuestAgents, Sent) {
        let sent = Sent::default();
        let log = Arc::clone(&sent);
        let mut agents = MockGuestAgents::new();
        agents.expect_session().returning(move |_, _| {
            let (log, timer) = (Arc::clone(&log), timer.clone());
            let mut session = MockAgentSession::new();
            session.expect_execute().returning(move |command, _, _| {
                let mut log = log.lock().unwrap();
                let status = if log.is_empty() { "thawed" } else { status_after };
                log.push(command.execute);
                let refused = refusals.iter().find(|(refused, _)| *refused == command.execute);
                match (refused, command.execute) {
                    (Some((_, reason)), _) => Err(AgentError::Refused {
                        command: command.execute,
                        class: "GenericError".to_owned(),
                        description: (*reason).to_owned(),
                    }),
                    (None, EXEC) => Ok(json!({ "pid": 7 })),
                    (None, TIMER) => Ok(timer.clone()),
                    (None, _) => Ok(json!(status)),
                }
            });
            Ok(Box::new(session))
        });
        (agents, sent)
    }

    type Sent = Arc<Mutex<Vec<&'static str>>>;

    async fn frozen(agents: &MockGuestAgents) -> Result<(), QuiesceError> {
        let paths = RunPaths { sockets: "/r".into(), records: "/s".into() };
        let agent = Agent { agents, paths: &paths };
        Frozen::freeze(agent, &"v".parse().unwrap(), Duration::from_secs(90)).await?.thaw().await
    }

    /// Freezes, and returns the error and the commands that were sent.
    async fn fail(status_after: &'static str, refusals: Refusals) -> (QuiesceError, Vec<&'static str>) {
        let (agents, sent) = agent(status_after, refusals, json!({ "exited": false }));
        let error = frozen(&agents).await.err().unwrap();
        let sent = std::mem::take(&mut *sent.lock().unwrap());
        (error, sent)
    }

    const DISABLED: &str = "Command guest-fsfreeze-freeze has been disabled: the command is not allowed";
    const UNSUPPORTED: &str = "this feature or command is not currently supported";
    const STATUS: &str = "guest-fsfreeze-status";
    const FREEZE: &str = "guest-fsfreeze-freeze";
    const THAW: &str = "guest-fsfreeze-thaw";
    const EXEC: &str = "guest-exec";
    const TIMER: &str = "guest-exec-status";

    #[tokio::test(start_paused = true)]
    async fn test_guest_that_is_neither_frozen_nor_thawed_may_be_frozen() {
        let (error, sent) = fail("frozen", &[(FREEZE, "a disk failed"), (THAW, "a disk failed")]).await;

        assert!(matches!(error, QuiesceError::NotThawed { .. }), "{error}");
        assert!(sent.iter().filter(|command| **command == THAW).count() > 10, "{sent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn test_guest_that_cannot_freeze_is_not_frozen() {
        let (blocked, sent_to_blocked) = fail("frozen", &[(FREEZE, DISABLED)]).await;
        let (old, sent_to_old) = fail("thawed", &[(FREEZE, UNSUPPORTED), (THAW, UNSUPPORTED)]).await;

        assert!(matches!(blocked, QuiesceError::NotFrozen { .. }), "{blocked}");
        assert_eq!(sent_to_blocked, [STATUS, EXEC, FREEZE, TIMER, EXEC]);
        assert!(matches!(old, QuiesceError::NotFrozen { .. }), "{old}");
        assert_eq!(sent_to_old, [STATUS, EXEC, FREEZE, THAW, STATUS, TIMER, EXEC]);
    }

    #[tokio::test(start_paused = true)]
    async fn test_guest_that_would_not_thaw_on_its_own_is_named() {
        let paths = RunPaths { sockets: "/r".into(), records: "/s".into() };
        let check = async |refusals, exit_code: i32| {
            let (agents, _) = agent("thawed", refusals, json!({ "exited": true, "exitcode": exit_code }));
            Frozen::check(Agent { agents: &agents, paths: &paths }, &"v".parse().unwrap()).await.unwrap()
        };

        assert_eq!(check(&[], 0).await, None);
        assert!(check(&[], 127).await.is_some_and(|warning| warning.contains("`fsfreeze`")));
        assert!(check(&[(EXEC, DISABLED)], 0).await.is_some_and(|warning| warning.contains("refuses to run commands")));
    }

    #[tokio::test(start_paused = true)]
    async fn test_guest_that_thaws_on_its_own_was_frozen_too_long() {
        let ended = |exit_code: i32| json!({ "exited": true, "exitcode": exit_code });
        let outcome = async |refusals, timer| {
            let (agents, sent) = agent("frozen", refusals, timer);
            let thawed = frozen(&agents).await;
            let last = sent.lock().unwrap().last().copied();
            (thawed.map_err(|error| error.explain().code), last)
        };

        assert_eq!(outcome(&[], json!({ "exited": false })).await, (Ok(()), Some(EXEC)));
        assert_eq!(outcome(&[], ended(0)).await, (Err("guest.freeze-timed-out"), Some(TIMER)));
        // Without fsfreeze(8).
        assert_eq!(outcome(&[], ended(3)).await, (Ok(()), Some(TIMER)));
        // Without `guest-exec`.
        assert_eq!(outcome(&[(EXEC, "it has been disabled")], ended(0)).await, (Ok(()), Some(THAW)));
    }
}
