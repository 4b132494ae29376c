//! How far the guest is, as its agent says.

use maqet_domain::error::Explain;
use maqet_domain::guest::{AgentCommand, CloudInit, GuestAddress, GuestBoot, GuestInterface};
use maqet_domain::port::AgentError;
use maqet_domain::vm::{Run, VmEntry};
use serde::Serialize;
use tokio::time::Instant;

use crate::guest::agent::Agent;
use crate::wait::condition::Condition;
use crate::wait::error::WaitError;
use crate::wait::watcher::agent_answers;
use crate::{App, Error, limits};

/// What a guest says about itself.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GuestReport {
    /// How its start ended, for `boot`.
    pub boot: Option<GuestBoot>,
    /// How cloud-init ended, for `cloud-init`.
    pub cloud_init: Option<CloudInit>,
    /// The addresses at which others reach it, for `address`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<GuestAddress>,
}

impl GuestReport {
    /// Returns whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another one says.
    pub(crate) fn add(&mut self, other: Self) {
        let Self { boot, cloud_init, addresses } = other;
        self.boot = self.boot.take().or(boot);
        self.cloud_init = self.cloud_init.take().or(cloud_init);
        self.addresses.extend(addresses);
    }
}

/// Asks a guest now and then.
pub(super) struct GuestProgress<'a> {
    app: &'a App,
    asked: Option<Instant>,
    pub(super) report: GuestReport,
}

impl<'a> GuestProgress<'a> {
    pub(super) fn new(app: &'a App) -> Self {
        Self { app, asked: None, report: GuestReport::default() }
    }

    /// Returns whether a condition is met; asks no more often than what that costs the guest allows.
    pub(super) async fn is_met(&mut self, condition: &Condition, entry: &VmEntry, run: &Run) -> Result<bool, Error> {
        let now = Instant::now();
        if self.asked.is_some_and(|asked| now < asked + limits::GUEST_PROGRESS_INTERVAL) {
            return Ok(false);
        }
        self.asked = Some(now);
        if !agent_answers(self.app, entry, run).await? {
            return Ok(false);
        }
        let agent = Agent { agents: &*self.app.ports.agents, paths: &run.paths };
        let asked = match condition {
            Condition::Boot => self.boot(agent, entry).await,
            Condition::CloudInit => self.cloud_init(agent, entry).await,
            _ => self.address(agent).await,
        };
        match asked {
            Ok(is_met) => Ok(is_met?),
            Err(AgentError::Refused { command, class, description }) => {
                let source = AgentError::Refused { command, class, description };
                // A guest that thaws its file systems answers again.
                if source.code() == "guest.agent-conflict" {
                    return Ok(false);
                }
                let (vm, condition) = (entry.name.clone(), condition.to_string());
                Err(WaitError::AgentRefused { vm, condition, source }.into())
            }
            // The guest may be about to restart.
            Err(error) => {
                tracing::debug!(%error, "cannot ask the guest agent");
                Ok(false)
            }
        }
    }

    async fn boot(&mut self, agent: Agent<'_>, entry: &VmEntry) -> Result<Result<bool, WaitError>, AgentError> {
        let boot = GuestBoot::parse(&output(agent, &GuestBoot::query()).await?);
        let vm = || entry.name.clone();
        Ok(match boot {
            GuestBoot::Starting => Ok(false),
            GuestBoot::Running | GuestBoot::Degraded { .. } => {
                self.report.boot = Some(boot);
                Ok(true)
            }
            GuestBoot::Maintenance { failed_units: units } => Err(WaitError::BootFailed { vm: vm(), units }),
            GuestBoot::Unsupported => Err(WaitError::NoSuchProgram { vm: vm(), program: "systemd" }),
        })
    }

    async fn cloud_init(&mut self, agent: Agent<'_>, entry: &VmEntry) -> Result<Result<bool, WaitError>, AgentError> {
        let state = CloudInit::parse(&output(agent, &CloudInit::query()).await?);
        let vm = || entry.name.clone();
        Ok(match state {
            CloudInit::Running => Ok(false),
            CloudInit::Done { .. } => {
                self.report.cloud_init = Some(state);
                Ok(true)
            }
            CloudInit::Failed { errors } => Err(WaitError::CloudInitFailed { vm: vm(), errors }),
            CloudInit::Disabled => Err(WaitError::CloudInitDisabled { vm: vm() }),
            CloudInit::Unsupported => Err(WaitError::NoSuchProgram { vm: vm(), program: "cloud-init" }),
        })
    }

    async fn address(&mut self, agent: Agent<'_>) -> Result<Result<bool, WaitError>, AgentError> {
        let mut session = agent.session(limits::AGENT_TIMEOUT).await?;
        let query = AgentCommand::new("guest-network-get-interfaces");
        let reply = session.execute(&query, limits::MAX_AGENT_REPLY_BYTES, limits::AGENT_TIMEOUT).await?;
        let interfaces = GuestInterface::from_reply(&reply);
        let addresses = interfaces.into_iter().flat_map(|interface| interface.addresses);
        self.report.addresses = addresses.filter(GuestAddress::is_reachable).collect();
        Ok(Ok(!self.report.addresses.is_empty()))
    }
}

/// Returns what a short program prints; nothing, as of a guest that is not that far, if it takes too long.
async fn output(agent: Agent<'_>, command: &AgentCommand) -> Result<String, AgentError> {
    let status = agent.complete(command, limits::AGENT_OUTPUT_POLLS).await?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&status.stdout).into_owned())
}
