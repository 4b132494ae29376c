//! The port [`Monitors`]: connect on demand, ask, leave.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use maqet_adapters_linux::limits::in_millis;
use maqet_adapters_linux::pause;
use maqet_domain::port::{MainLoop, MonitorSession, Monitors, SessionEvent};
use maqet_domain::qmp::RunState;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::{MonitorAnswer, MonitorRole, RunPaths};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::QmpSession;
use super::queue::{Turn, try_turn, turn};
use crate::limits::{GREETING_DEADLINE, SESSION_GREETING, SILENCE_TELLS};

/// Talks to the monitors of QEMU.
///
/// Each monitor serves one client, so callers take turns by a kernel lock beside its socket. A question about the run
/// state goes to whichever of our monitors is free, so that it does not wait behind a long command.
#[derive(Debug, Clone, Copy, Default)]
pub struct QemuMonitors;

#[async_trait]
impl Monitors for QemuMonitors {
    async fn execute(&self, paths: &RunPaths, command: &QmpCommand, deadline: Duration) -> Result<Value, QmpError> {
        let started = Instant::now();
        let until = started + deadline;
        let socket = paths.monitor(MonitorRole::Command);

        let turn = match turn(paths, MonitorRole::Command, until).await {
            Ok(Some(turn)) => turn,
            Ok(None) => return Err(QmpError::QueueTimedOut { after: in_millis(started.elapsed()) }),
            Err(why) => return Err(QmpError::NoMonitor { socket, source: why.into() }),
        };
        let queued = started.elapsed();
        let mut session = match QmpSession::connect_until(&socket, until, GREETING_DEADLINE).await {
            // The turn came, and with it hardly any time to be greeted in, or to negotiate.
            Err(QmpError::NoGreeting { after, .. }) if after < queued && after < GREETING_DEADLINE => {
                return Err(QmpError::QueueTimedOut { after: in_millis(started.elapsed()) });
            }
            Err(QmpError::Blocked { after, .. }) if after < queued && after < SILENCE_TELLS => {
                return Err(QmpError::QueueTimedOut { after: in_millis(started.elapsed()) });
            }
            connected => connected.map_err(|why| told_by_silence(why, deadline))?,
        };
        let result = session.execute_until(command, until).await;
        // The connection is closed before the turn is over, so that the next caller finds the monitor free.
        drop(session);
        drop(turn);
        result
    }

    async fn answer(&self, paths: &RunPaths, patience: Duration) -> MonitorAnswer {
        let until = Instant::now() + patience;
        let mut waiting = [MonitorRole::Command, MonitorRole::SessionOne, MonitorRole::SessionTwo].to_vec();
        loop {
            let mut role_taken = None;
            for (index, role) in waiting.iter().enumerate() {
                match try_turn(paths, *role) {
                    Ok(Some(turn)) => {
                        role_taken = Some((index, turn));
                        break;
                    }
                    Ok(None) => {}
                    Err(why) => return without_monitor(&why),
                }
            }
            let Some((index, turn)) = role_taken else {
                // Whoever has all the turns is one of us, at work with a QEMU that serves them.
                if Instant::now() >= until {
                    return MonitorAnswer::Blocked;
                }
                pause().await;
                continue;
            };
            let share = until.saturating_duration_since(Instant::now()) / u32::try_from(waiting.len()).unwrap_or(1);
            let answer = ask(paths, waiting[index], until, share).await;
            drop(turn);
            match answer {
                Some(answer) => return answer,
                // A client that is not ours has this monitor.
                None => drop(waiting.remove(index)),
            }
            if waiting.is_empty() {
                return MonitorAnswer::Silent;
            }
        }
    }

    async fn session(&self, paths: &RunPaths, deadline: Duration) -> Result<Box<dyn MonitorSession>, QmpError> {
        let started = Instant::now();
        let until = started + deadline;
        let share = (deadline / 3).min(SESSION_GREETING);
        loop {
            let (mut taken, mut ungreeted) = (0, None);
            for role in [MonitorRole::SessionOne, MonitorRole::SessionTwo] {
                let socket = paths.monitor(role);
                match try_turn(paths, role) {
                    Ok(Some(turn)) => match QmpSession::connect_until(&socket, until, share).await {
                        Ok(session) => {
                            return Ok(Box::new(HeldSession { session: session.keeping_events(), _turn: turn }));
                        }
                        Err(other @ (QmpError::NoGreeting { .. } | QmpError::QueueTimedOut { .. })) => {
                            ungreeted = Some(other);
                        }
                        Err(other) => return Err(told_by_silence(other, deadline)),
                    },
                    Ok(None) => taken += 1,
                    Err(why) => return Err(QmpError::NoMonitor { socket, source: why.into() }),
                }
            }
            if Instant::now() >= until {
                let after = in_millis(started.elapsed());
                let ungreeted = ungreeted.map(|why| told_by_silence(why, deadline));
                let told = ungreeted.filter(|why| taken == 0 || matches!(why, QmpError::NoTime));
                return Err(told.unwrap_or(QmpError::SessionsTaken { after }));
            }
            pause().await;
        }
    }
}

/// A session on a monitor that is ours alone meanwhile; the connection is closed before the turn is over.
struct HeldSession {
    session: QmpSession,
    _turn: Turn,
}

#[async_trait]
impl MonitorSession for HeldSession {
    async fn execute(&mut self, command: &QmpCommand, deadline: Duration) -> Result<Value, QmpError> {
        self.session.execute(command, deadline).await
    }

    async fn heard(&mut self, patience: Duration) -> Result<Option<SessionEvent>, QmpError> {
        self.session.heard(patience).await
    }

    async fn main_loop(&mut self, patience: Duration) -> MainLoop {
        self.session.main_loop(patience).await
    }
}

/// Returns what a monitor tells that did not take us, greet or negotiate: nothing of QEMU, if there was no time for it.
fn told_by_silence(why: QmpError, deadline: Duration) -> QmpError {
    match why {
        QmpError::NoGreeting { .. } | QmpError::Blocked { .. } | QmpError::QueueTimedOut { .. }
            if deadline < SILENCE_TELLS =>
        {
            QmpError::NoTime
        }
        why => why,
    }
}

/// Returns what is known of a machine whose monitor could not be tried.
///
/// Without the folder of the sockets, or without a listener, nobody can answer. Anything else is a trouble of ours, as
/// too many open files, and says nothing about the machine.
fn without_monitor(why: &io::Error) -> MonitorAnswer {
    match why.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => MonitorAnswer::Silent,
        _ => MonitorAnswer::Blocked,
    }
}

/// Asks one monitor; `None` when it took nobody, or did not greet, within `share`.
async fn ask(paths: &RunPaths, role: MonitorRole, until: Instant, share: Duration) -> Option<MonitorAnswer> {
    #[derive(Deserialize)]
    struct QueryStatus {
        status: RunState,
    }

    let told = async {
        let mut session = QmpSession::connect_until(&paths.monitor(role), until, share).await?;
        session.execute_until(&QmpCommand::new("query-status"), until).await
    };
    match told.await {
        Ok(told) => Some(match QueryStatus::deserialize(told) {
            Ok(told) => MonitorAnswer::State(told.status),
            Err(_) => MonitorAnswer::Silent,
        }),
        Err(QmpError::NoGreeting { .. } | QmpError::QueueTimedOut { .. }) => None,
        Err(QmpError::Blocked { .. } | QmpError::TimedOut { .. }) => Some(MonitorAnswer::Blocked),
        Err(QmpError::NoMonitor { source, .. }) => {
            Some(source.downcast_ref().map_or(MonitorAnswer::Silent, without_monitor))
        }
        Err(
            QmpError::SessionsTaken { .. }
            | QmpError::NoTime
            | QmpError::TooMuch { .. }
            | QmpError::Closed { .. }
            | QmpError::Garbled { .. }
            | QmpError::Refused { .. },
        ) => Some(MonitorAnswer::Silent),
    }
}
