//! Watching for a condition.

use std::time::Duration;

use maqet_domain::hook::QEMU_EVENTS;
use maqet_domain::network::{Forward, Protocol, is_established};
use maqet_domain::port::PathKind;
use maqet_domain::qmp::RunState;
use maqet_domain::qmp::wording::TCP_FORWARD;
use maqet_domain::text::glob_matches;
use maqet_domain::vm::{MonitorAnswer, Run, Status, VmEntry};
use tokio::time::Instant;

use crate::event::reader::{Cursor, EventReader, ShownEvent};
use crate::guest::agent::Agent;
use crate::guest::channels::Channels;
use crate::input::screen::Screen;
use crate::vm::monitor::info_usernet;
use crate::vm::observe::Observation;
use crate::wait::condition::Condition;
use crate::wait::error::WaitError;
use crate::wait::guest_progress::{GuestProgress, GuestReport};
use crate::wait::screen_stability::ScreenStability;
use crate::wait::serial_output::SerialOutput;
use crate::wait::since::SerialSince;
use crate::{App, Error, limits};

/// The port of SSH.
const SSH_PORT: u16 = 22;

/// A condition, and what its observations have in common.
pub(crate) struct Watcher<'a> {
    app: &'a App,
    pub(crate) condition: &'a Condition,
    pub(crate) is_met: bool,
    serial: SerialOutput,
    reader: Option<EventReader<'a>>,
    since: jiff::Timestamp,
    screen: Option<ObservedScreen>,
    guest: GuestProgress<'a>,
}

/// The screen of a run, and when it was last observed.
struct ObservedScreen {
    stability: ScreenStability,
    observed: Instant,
}

impl<'a> Watcher<'a> {
    /// Starts to watch; events count from `since` on, and serial output from `serial` on.
    pub(crate) fn new(app: &'a App, condition: &'a Condition, since: jiff::Timestamp, serial: SerialSince) -> Self {
        let serial = SerialOutput::new(serial);
        Self {
            app,
            condition,
            is_met: false,
            serial,
            reader: None,
            since,
            screen: None,
            guest: GuestProgress::new(app),
        }
    }

    /// Returns whether the condition can be met only while the VM is running.
    pub(crate) const fn needs_running_vm(&self) -> bool {
        match self.condition {
            Condition::Qmp
            | Condition::Agent
            | Condition::Boot
            | Condition::CloudInit
            | Condition::Address
            | Condition::Ssh
            | Condition::Port(_)
            | Condition::ScreenStable(_)
            | Condition::Serial(_) => true,
            Condition::Event(_) | Condition::File(_) | Condition::Status(_) | Condition::Stopped(_) => false,
        }
    }

    /// Returns whether the condition cannot be met by a VM in this state without a new start or a reset.
    pub(crate) const fn is_hopeless(&self, status: Status) -> bool {
        match (self.condition, status) {
            (Condition::Stopped(_), Status::Stopped(_) | Status::Panicked) => !self.is_met,
            (Condition::Qmp, Status::Panicked) => false,
            (_, Status::Panicked) => !self.is_met && self.needs_running_vm(),
            (_, status) => !self.is_met && !status.is_live() && self.needs_running_vm(),
        }
    }

    /// Checks the condition; once met it stays met.
    pub(crate) async fn check(&mut self, entry: &VmEntry, observation: &Observation) -> Result<(), Error> {
        self.is_met = self.is_met || self.is_met_now(entry, observation).await?;
        Ok(())
    }

    async fn is_met_now(&mut self, entry: &VmEntry, observation: &Observation) -> Result<bool, Error> {
        let live = entry.run.as_ref().filter(|_| observation.process.is_some());
        match (self.condition, live) {
            (Condition::Status(status), _) => Ok(observation.status.as_str() == status),
            (Condition::Stopped(end), _) => Ok(end.is_met(observation.status)),
            (Condition::File(path), _) => Ok(self.app.ports.paths.kind(path).await != PathKind::NotFound),
            (Condition::Event(name), _) => self.has_happened(entry, name).await,
            (Condition::Serial(pattern), _) => {
                let (records, is_live) = (&*self.app.ports.records, observation.status.is_live());
                Ok(self.serial.matches(records, entry, is_live, pattern).await?)
            }
            (Condition::Qmp, Some(run)) => {
                let answer = self.app.ports.monitors.answer(&run.paths, limits::QUERY_TIMEOUT).await;
                Ok(matches!(answer, MonitorAnswer::State(state) if state != RunState::Inmigrate))
            }
            (Condition::Agent, Some(run)) => agent_answers(self.app, entry, run).await,
            (Condition::Boot | Condition::CloudInit | Condition::Address, Some(run)) => {
                self.guest.is_met(self.condition, entry, run).await
            }
            (Condition::Ssh, Some(run)) => ssh_answers(self.app, entry, run).await,
            (Condition::Port(port), Some(run)) => port_answers(self.app, entry, run, *port).await,
            (Condition::ScreenStable(duration), Some(run)) => self.is_stable(entry, run, duration.duration()).await,
            (
                Condition::Qmp
                | Condition::Agent
                | Condition::Boot
                | Condition::CloudInit
                | Condition::Address
                | Condition::Ssh
                | Condition::Port(_)
                | Condition::ScreenStable(_),
                None,
            ) => Ok(false),
        }
    }

    /// Returns what the guest says about a condition that was met.
    pub(crate) fn into_report(self) -> GuestReport {
        self.guest.report
    }

    async fn has_happened(&mut self, entry: &VmEntry, name: &str) -> Result<bool, Error> {
        let events = if let Some(reader) = &mut self.reader {
            reader.read_new().await?.events
        } else {
            let since = self.since;
            let filter = Box::new(move |event: &ShownEvent| event.at >= since);
            let mut reader = EventReader::open(self.app, Some(entry.id), Cursor::default(), filter).await?;
            let events = reader.read_all().await?.events;
            self.reader = Some(reader);
            events
        };
        let name = name.to_lowercase();
        let matches = |kind: &str| {
            let kind = kind.to_lowercase();
            glob_matches(&name, &kind) || kind.strip_prefix(QEMU_EVENTS).is_some_and(|own| glob_matches(&name, own))
        };
        Ok(events.iter().any(|event| event.at >= self.since && matches(&event.kind)))
    }

    async fn is_stable(&mut self, entry: &VmEntry, run: &Run, duration: Duration) -> Result<bool, Error> {
        let now = Instant::now();
        if self.screen.as_ref().is_some_and(|screen| now < screen.observed + limits::SCREEN_INTERVAL) {
            return Ok(false);
        }
        let screen = Screen::new(self.app, &entry.name, run, self.app.timeouts().qmp);
        // It holds several commands, and would make the futures of its callers large.
        let picture = Box::pin(screen.dump()).await;
        let picture = match picture {
            Ok(picture) => picture,
            // The next observation shows whether the VM has ended.
            Err(error) if error.is_connection_loss() => return Ok(false),
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        let stability = match self.screen.take() {
            Some(ObservedScreen { mut stability, .. }) => {
                stability.push(picture, now);
                stability
            }
            None => ScreenStability::new(picture, now),
        };
        let is_stable = stability.stable_for(now) >= duration;
        self.screen = Some(ObservedScreen { stability, observed: now });
        Ok(is_stable)
    }
}

/// Returns whether the guest agent answers.
///
/// QEMU knows whether a process in the guest has the port open. Only an answer shows that it is not stopped.
pub(super) async fn agent_answers(app: &App, entry: &VmEntry, run: &Run) -> Result<bool, Error> {
    let channels = match Channels::of_run(&*app.ports.monitors, &run.paths).await {
        Ok(channels) => channels,
        // The next observation shows whether the VM has ended.
        Err(error) => {
            tracing::debug!(%error, "cannot query the channels");
            return Ok(false);
        }
    };
    match channels.agent() {
        Some(true) => Ok(Agent { agents: &*app.ports.agents, paths: &run.paths }.answers().await),
        Some(false) => Ok(false),
        None => Err(WaitError::NoAgentChannel { vm: entry.name.clone() }.into()),
    }
}

/// Returns the forward to the port of SSH.
pub(crate) fn ssh_forward<'r>(entry: &VmEntry, run: &'r Run) -> Result<&'r Forward, WaitError> {
    forward_to(entry, run, SSH_PORT)
}

/// Returns whether a server for SSH answers: it sends its version first (RFC 4253, 4.2).
async fn ssh_answers(app: &App, entry: &VmEntry, run: &Run) -> Result<bool, Error> {
    let forward = ssh_forward(entry, run)?;
    let (address, port) = (forward.host_address, forward.host_port);
    let Some(mut connection) = app.ports.dialer.dial(address, port, limits::DIAL_TIMEOUT).await else {
        return Ok(false);
    };
    Ok(connection.begins_with(b"SSH-", limits::SSH_GREETING_TIMEOUT).await)
}

/// Returns whether a server in the guest accepts connections at a port.
///
/// QEMU's user network accepts a forwarded connection even if nothing listens in the guest, so `info usernet` is
/// queried for its state. Other backends pass the guest's refusal on: with them the connection has to stay open.
async fn port_answers(app: &App, entry: &VmEntry, run: &Run, port: u16) -> Result<bool, Error> {
    let forward = forward_to(entry, run, port)?;
    let Some(mut connection) =
        app.ports.dialer.dial(forward.host_address, forward.host_port, limits::DIAL_TIMEOUT).await
    else {
        return Ok(false);
    };
    let until = Instant::now() + limits::DIAL_TIMEOUT;
    let mut is_usernet = false;
    while Instant::now() < until {
        let Some(usernet) = info_usernet(&*app.ports.monitors, run).await else { break };
        if !usernet.contains(TCP_FORWARD) {
            break;
        }
        is_usernet = true;
        if is_established(forward.host_port, &usernet) {
            return Ok(true);
        }
        if !connection.stays(limits::DIAL_INTERVAL).await {
            return Ok(false);
        }
    }
    Ok(!is_usernet && connection.stays(limits::DIAL_TIMEOUT).await)
}

/// Returns the forward to port `port` of the guest, or else from that port of the host.
fn forward_to<'r>(entry: &VmEntry, run: &'r Run, port: u16) -> Result<&'r Forward, WaitError> {
    let tcp = || run.forwards.iter().filter(|forward| forward.protocol == Protocol::Tcp);
    let to_guest = tcp().find(|forward| forward.guest_port == port);
    to_guest.or_else(|| tcp().find(|forward| forward.host_port == port)).ok_or_else(|| WaitError::NoForward {
        vm: entry.name.clone(),
        port,
        known: tcp().map(ToString::to_string).collect(),
    })
}
