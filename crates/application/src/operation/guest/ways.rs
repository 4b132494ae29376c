//! The ways to run a command in a guest: the first that is ready is taken.

use maqet_domain::guest::SshLogin;
use maqet_domain::port::AgentError;
use maqet_domain::qmp::RunState;
use maqet_domain::vm::MonitorAnswer;

use super::login::ssh_login;
use crate::guest::agent::Agent;
use crate::guest::by_agent::{self, Ended};
use crate::guest::by_ports::FreePorts;
use crate::guest::by_ssh::{self, Ssh};
use crate::guest::channels::Channels;
use crate::guest::error::ExecError;
use crate::guest::request::{ExecRequest, ExecVia, ExecWayRefused, WayError};
use crate::guest::streams::ExecStreams;
use crate::maintenance::error_chain;
use crate::vm::monitor::Monitored;
use crate::{App, Error, limits};

/// What a command needs, whichever way it goes.
pub(super) struct Ways<'a> {
    pub(super) app: &'a App,
    pub(super) vm: &'a Monitored<'a>,
    pub(super) request: &'a ExecRequest,
    pub(super) streams: &'a dyn ExecStreams,
    pub(super) via: ExecVia,
}

/// The ways that were not taken.
#[derive(Default)]
struct Refused {
    ways: Vec<ExecWayRefused>,
    /// Why the first one was not.
    first: Option<Box<ExecError>>,
}

/// A way by the agent that is ready.
enum ReadyWay {
    Ports(FreePorts),
    /// By the agent alone.
    Agent,
}

impl Refused {
    fn add(&mut self, via: ExecVia, error: ExecError) {
        let reason = error_chain(&error);
        tracing::info!(%via, %reason, "cannot run the command in this way");
        self.ways.push(ExecWayRefused { via, reason });
        self.first.get_or_insert_with(|| Box::new(error));
    }
}

impl Ways<'_> {
    /// Runs the command by the first way that is ready; returns how it ended, that way, and those that were not ready.
    pub(super) async fn run(&self) -> Result<(Ended, ExecVia, Vec<ExecWayRefused>), Error> {
        let (ended, via, refused) = self.run_by_first().await?;
        tracing::info!(%via, "the command has ended");
        Ok((ended, via, refused))
    }

    async fn run_by_first(&self) -> Result<(Ended, ExecVia, Vec<ExecWayRefused>), Error> {
        let mut refused = Refused::default();
        let is_any = self.via == ExecVia::Auto;
        if self.via != ExecVia::Ssh {
            match self.run_by_agent(&mut refused.ways).await {
                Ok((ended, via)) => return Ok((ended, via, refused.ways)),
                Err(WayError::NotReady(error)) => match unless_stopped(self.app, self.vm, error.into()).await {
                    Error::Exec(error) if is_any && !matches!(error, ExecError::Stopped { .. }) => {
                        refused.add(ExecVia::Agent, error);
                    }
                    error => return Err(error),
                },
                Err(WayError::Failed(error)) => return Err(error),
            }
        }
        match self.run_by_ssh().await {
            Ok(ended) => Ok((ended, ExecVia::Ssh, refused.ways)),
            Err(WayError::NotReady(error)) if is_any => {
                refused.add(ExecVia::Ssh, error);
                let (vm, Refused { ways, first }) = (self.vm.entry.name.clone(), refused);
                Err(ExecError::NoWay { vm, refused: ways, first }.into())
            }
            Err(WayError::NotReady(error)) => Err(error.into()),
            Err(WayError::Failed(error)) => Err(error),
        }
    }

    async fn run_by_ssh(&self) -> Result<Ended, WayError> {
        let login: SshLogin = ssh_login(self.app, self.vm).await?;
        let ssh = Ssh { clients: &*self.app.ports.ssh, login: &login, request: self.request };
        by_ssh::run(self.app, self.vm, ssh, self.streams).await
    }

    /// Runs the command by ports, else by the agent alone; returns by which.
    async fn run_by_agent(&self, refused: &mut Vec<ExecWayRefused>) -> Result<(Ended, ExecVia), WayError> {
        let Self { app, vm, request, streams, .. } = *self;
        let agent = Agent { agents: &*app.ports.agents, paths: &vm.run.paths };
        match request.before_start(streams, self.ready_way(agent, refused)).await {
            Err(end) => Ok((Ended::without_output(end), self.via)),
            Ok(way) => match way? {
                ReadyWay::Ports(ports) => Ok((ports.run(vm, agent, request, streams).await?, ExecVia::Ports)),
                ReadyWay::Agent => Ok((by_agent::run(app, vm, agent, request, streams).await?, ExecVia::Agent)),
            },
        }
    }

    /// Returns the first way by the agent that is ready.
    async fn ready_way(&self, agent: Agent<'_>, refused: &mut Vec<ExecWayRefused>) -> Result<ReadyWay, WayError> {
        let Self { app, vm, via, .. } = *self;
        let name = &vm.entry.name;
        let channels = vm.or_unresponsive(Channels::query(vm).await)?;
        match channels.agent() {
            Some(true) => {}
            Some(false) => return Err(WayError::NotReady(ExecError::NoAgent { vm: name.clone() })),
            None => {
                let source = AgentError::NoChannel;
                return Err(WayError::NotReady(ExecError::Agent { vm: name.clone(), source }));
            }
        }
        let needs_ports = self.streams.terminal().is_some();
        if via == ExecVia::Agent && needs_ports {
            let refused = vec![ExecWayRefused { via: ExecVia::Agent, reason: "it has no terminal".to_owned() }];
            return Err(ExecError::NoWay { vm: name.clone(), refused, first: None }.into());
        }
        if via == ExecVia::Agent {
            return Ok(ReadyWay::Agent);
        }
        let reason = match FreePorts::claim(app, vm, agent, &channels).await {
            Ok(Some(ports)) => return Ok(ReadyWay::Ports(ports)),
            Ok(None) => "other commands have all sets of ports".to_owned(),
            Err(ExecError::Port { source, .. }) => source.to_string(),
            Err(error) => return Err(WayError::NotReady(error)),
        };
        let by_ports = ExecWayRefused { via: ExecVia::Ports, reason };
        if via == ExecVia::Ports || needs_ports {
            let error = ExecError::NoWay { vm: name.clone(), refused: vec![by_ports], first: None };
            return Err(WayError::NotReady(error));
        }
        refused.push(by_ports);
        Ok(ReadyWay::Agent)
    }
}

/// Returns the error of a command that was not started; that the guest's CPUs are stopped, if that is why.
pub(super) async fn unless_stopped(app: &App, vm: &Monitored<'_>, error: Error) -> Error {
    let is_silent = matches!(
        &error,
        Error::Exec(
            ExecError::Agent { source: AgentError::Unresponsive { .. }, .. } | ExecError::SshUnavailable { .. }
        )
    );
    if !is_silent {
        return error;
    }
    match app.ports.monitors.answer(&vm.run.paths, limits::QUERY_TIMEOUT).await {
        MonitorAnswer::State(state) if state != RunState::Running => {
            let state = app.observer().observe(vm.entry.clone()).await.1.described();
            ExecError::Stopped { vm: vm.entry.name.clone(), state }.into()
        }
        _ => error,
    }
}
