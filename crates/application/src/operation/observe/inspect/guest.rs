//! The guest of a running VM, as its agent describes it.

use maqet_domain::guest::{AGENT_PORT, AgentVersion, GuestInterface, GuestSystem};
use maqet_domain::vm::RunPaths;
use serde::Serialize;

use super::machine::Chardev;
use crate::App;
use crate::guest::agent::{Agent, GuestFacts};

/// The guest of a running VM; what its agent does not say is left out.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InspectedGuest {
    /// The version of the agent.
    pub agent_version: Option<AgentVersion>,
    /// The name of the host.
    pub hostname: Option<String>,
    /// The operating system.
    pub system: Option<GuestSystem>,
    /// Its network cards, without the loopback interface.
    pub interfaces: Vec<GuestInterface>,
}

impl InspectedGuest {
    /// Asks the agent if one runs; `None` if it does not answer.
    pub(super) async fn read(app: &App, paths: &RunPaths, chardevs: &[Chardev]) -> Option<Self> {
        if !chardevs.iter().any(|device| device.name == AGENT_PORT && device.open) {
            return None;
        }
        let facts = GuestFacts::read(Agent { agents: &*app.ports.agents, paths }).await?;
        let GuestFacts { version, hostname, system, interfaces } = facts;
        Some(Self { agent_version: version, hostname, system, interfaces })
    }
}
