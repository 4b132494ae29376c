//! A command whose streams are ports of the VM.

use maqet_domain::guest::{ExecFailure, ExecWay, GuestStream, Nonce, PortSet};
use maqet_domain::port::{AgentError, PortClaim};
use maqet_domain::text::escaped;
use tokio::time::{Instant, sleep};

use super::agent::{Agent, HeldSession};
use super::by_agent::Ended;
use super::channels::Channels;
use super::control::{Control, Started, Tools};
use super::error::ExecError;
use super::pump::{Pump, PumpEnd, PumpSetup};
use super::request::{ExecRequest, WayError};
use super::streams::ExecStreams;
use super::watch::Watch;
use crate::vm::monitor::Monitored;
use crate::{App, HumanDuration, limits};

/// A claimed set of ports that no command has open.
pub(crate) struct FreePorts {
    set: PortSet,
    claim: Box<dyn PortClaim>,
}

impl FreePorts {
    /// Claims a set of ports; `None` if commands have all of them.
    ///
    /// What a process left that was killed is ended first.
    ///
    /// Errors: `Port`, and `Agent` of one that does not answer.
    pub(crate) async fn claim(
        app: &App,
        vm: &Monitored<'_>,
        agent: Agent<'_>,
        channels: &Channels,
    ) -> Result<Option<Self>, ExecError> {
        let name = &vm.entry.name;
        for set in PortSet::all() {
            let claimed = app.ports.guest_ports.claim(&vm.run.paths, set).await;
            let claimed = claimed.map_err(|source| ExecError::Port { vm: name.clone(), source })?;
            let Some(claim) = claimed else { continue };
            let is_free = match claim.left() {
                None => !channels.has_open_output(set),
                Some(left) => sweep(vm, agent, set, &left)
                    .await
                    .map_err(|source| ExecError::Agent { vm: name.clone(), source })?,
            };
            if is_free {
                return Ok(Some(Self { set, claim }));
            }
        }
        Ok(None)
    }

    /// Runs a command.
    pub(crate) async fn run(
        self,
        vm: &Monitored<'_>,
        agent: Agent<'_>,
        request: &ExecRequest,
        streams: &dyn ExecStreams,
    ) -> Result<Ended, WayError> {
        let name = &vm.entry.name;
        let port_error = |source| ExecError::Port { vm: name.clone(), source };
        let terminal = streams.terminal();
        let (has_input, is_merged) = (streams.has_input(), request.is_merged || terminal.is_some());
        let connected: Vec<GuestStream> = GuestStream::ALL
            .into_iter()
            .filter(|stream| match stream {
                GuestStream::In => has_input,
                GuestStream::Out => true,
                GuestStream::Err => !is_merged,
            })
            .collect();
        let ports = self.claim.connect(&connected).await.map_err(port_error)?;
        let session = match request.session(vm, agent, streams).await? {
            Ok(session) => session,
            Err(end) => return Ok(Ended::without_output(end)),
        };
        let way = ExecWay::Ports { set: self.set, has_input, is_merged, terminal };
        self.claim.note(Some(request.nonce.clone()));
        let start = request.command.start(&request.nonce, way, None);
        let failed = |source| WayError::of_start(vm, source);
        let (pid, held) = HeldSession::start(session, &start).await.map_err(failed)?;
        let started = Started {
            tools: Tools::Agent(agent),
            pid,
            nonce: &request.nonce,
            set: Some(self.set),
            has_terminal: terminal.is_some(),
            reply_limit: limits::MAX_AGENT_REPLY_BYTES,
        };
        let (nonce, watch) = (&request.nonce, Watch::new(vm));
        let setup = PumpSetup { vm, ports: &*ports, streams, set: self.set, nonce, is_merged, watch };
        let mut pump = Pump::new(setup, Control::new(started, held, request));
        let end = pump.run().await.map_err(port_error)?;
        let bytes = pump.bytes();
        if !matches!(end, PumpEnd::TimedOut { .. } | PumpEnd::Silent | PumpEnd::Lost(_)) {
            self.claim.note(None);
        }
        match end {
            PumpEnd::NotStarted(status) => {
                let failure = ExecFailure::from_stderr(&request.nonce, &status.stderr);
                let reason = || escaped(String::from_utf8_lossy(&status.stderr).trim(), limits::MAX_REASON_CHARS);
                Err(match failure {
                    Some(failure) => ExecError::of(failure, name, &request.command),
                    None => ExecError::Failed { vm: name.clone(), reason: reason() },
                }
                .into())
            }
            PumpEnd::Silent => {
                let after = HumanDuration::new(limits::EXEC_START_TIMEOUT);
                Err(ExecError::TimedOut { vm: name.clone(), after }.into())
            }
            end => Ok(Ended { end, bytes, is_truncated: false }),
        }
    }
}

/// Ends what a process left that was killed; returns whether the ports are free then.
///
/// Fails if the agent does not answer: it would not start a command either.
async fn sweep(vm: &Monitored<'_>, agent: Agent<'_>, set: PortSet, left: &Nonce) -> Result<bool, AgentError> {
    match agent.sweep(left, Some(set)).await {
        Ok(()) => {}
        Err(error @ AgentError::Unresponsive { .. }) => return Err(error),
        Err(error) => tracing::warn!(%error, "cannot end what an earlier command has left"),
    }
    let until = Instant::now() + limits::EXEC_SWEEP_TIMEOUT;
    loop {
        match Channels::query(vm).await {
            Ok(channels) if !channels.has_open_output(set) => return Ok(true),
            Ok(_) if Instant::now() < until => sleep(limits::AGENT_TOOL_INTERVAL).await,
            Ok(_) | Err(_) => return Ok(false),
        }
    }
}
