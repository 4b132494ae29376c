//! A command for a guest, and how it is run.

use std::future::pending;
use std::time::Duration;

use maqet_domain::guest::{GuestCommand, Nonce};
use maqet_domain::port::{AgentError, AgentSession};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::agent::Agent;
use super::error::ExecError;
use super::pump::PumpEnd;
use super::streams::ExecStreams;
use crate::vm::monitor::Monitored;
use crate::{Error, limits};

/// By what a command is connected.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString,
    strum::VariantNames
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ExecVia {
    /// The first that is ready.
    #[default]
    Auto,
    /// Ports of the VM, which stream input and output of any size.
    Ports,
    /// The guest agent alone: the output comes at the end, at most 16 MiB of each stream.
    Agent,
    /// The `ssh` of the host, by a forwarded port.
    Ssh,
}

/// A way that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExecWayRefused {
    /// The way.
    pub via: ExecVia,
    /// Why.
    pub reason: String,
}

/// Why a command was not run in one way.
pub(crate) enum WayError {
    /// The way is not ready, and nothing of the command has reached the guest.
    NotReady(ExecError),
    /// It would be no better in another way, or it may have begun.
    Failed(Error),
}

impl From<Error> for WayError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ExecError> for WayError {
    fn from(error: ExecError) -> Self {
        Self::Failed(error.into())
    }
}

impl WayError {
    /// Returns the error of an agent that did not start the command: one that refuses to has not.
    pub(super) fn of_start(vm: &Monitored<'_>, source: AgentError) -> Self {
        let is_refused = matches!(source, AgentError::Refused { .. });
        let error = ExecError::Agent { vm: vm.entry.name.clone(), source };
        if is_refused { Self::NotReady(error) } else { error.into() }
    }
}

/// A command, and how it is run.
pub(crate) struct ExecRequest {
    pub(crate) command: GuestCommand,
    pub(crate) nonce: Nonce,
    pub(crate) is_merged: bool,
    pub(crate) deadline: Option<Instant>,
    pub(crate) kill_after: Duration,
}

impl ExecRequest {
    /// Does what precedes the start of the command, unless its time is over or its caller interrupts before.
    pub(crate) async fn before_start<T>(
        &self,
        streams: &dyn ExecStreams,
        work: impl Future<Output = T>,
    ) -> Result<T, PumpEnd> {
        tokio::select! {
            // What is done already is not thrown away.
            biased;
            done = work => Ok(done),
            signal = streams.signal() => Err(PumpEnd::Interrupted(None, signal)),
            () = at(self.deadline) => Err(PumpEnd::TooLate),
        }
    }

    /// Connects to the agent that is to start the command.
    pub(crate) async fn session(
        &self,
        vm: &Monitored<'_>,
        agent: Agent<'_>,
        streams: &dyn ExecStreams,
    ) -> Result<Result<Box<dyn AgentSession>, PumpEnd>, WayError> {
        match self.before_start(streams, agent.session(limits::AGENT_TIMEOUT)).await {
            Ok(session) => {
                let failed = |source| WayError::NotReady(ExecError::Agent { vm: vm.entry.name.clone(), source });
                session.map(Ok).map_err(failed)
            }
            Err(end) => Ok(Err(end)),
        }
    }
}

/// Waits until a moment, or forever.
pub(super) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
