//! The port [`Monitors`]: connects on demand for each command.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use maqet_adapters_linux::limits::round_to_millis;
use maqet_adapters_linux::retry_pause;
use maqet_domain::port::{MonitorSession, Monitors};
use maqet_domain::qmp::RunState;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::{MonitorAnswer, MonitorRole, RunPaths};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::QmpSession;
use super::monitor_lock::{lock_monitor, try_lock_monitor};
use crate::limits::{GREETING_TIMEOUT, MIN_CONCLUSIVE_SILENCE, SESSION_GREETING_TIMEOUT};

/// The monitors of QEMU.
///
/// Each monitor serves one client, so callers lock a file beside its socket. The run state is queried on
/// whichever of the monitors is free, so that it does not wait for a long command.
#[derive(Debug, Clone, Copy, Default)]
pub struct QemuMonitors;

#[async_trait]
impl Monitors for QemuMonitors {
    async fn execute(&self, paths: &RunPaths, command: &QmpCommand, timeout: Duration) -> Result<Value, QmpError> {
        execute(paths, command, timeout).await.map_err(|error| error.of_timeout(timeout))
    }

    async fn answer(&self, paths: &RunPaths, timeout: Duration) -> MonitorAnswer {
        let until = Instant::now() + timeout;
        let mut waiting = [MonitorRole::Command, MonitorRole::SessionOne, MonitorRole::SessionTwo].to_vec();
        loop {
            let mut free = None;
            for (index, role) in waiting.iter().enumerate() {
                match try_lock_monitor(paths, *role) {
                    Ok(Some(lock)) => {
                        free = Some((index, lock));
                        break;
                    }
                    Ok(None) => {}
                    Err(why) => return without_monitor(&why),
                }
            }
            let Some((index, lock)) = free else {
                // Other maqet processes use all monitors, so QEMU responds to them.
                if Instant::now() >= until {
                    return MonitorAnswer::Blocked;
                }
                retry_pause().await;
                continue;
            };
            let share = until.saturating_duration_since(Instant::now()) / u32::try_from(waiting.len()).unwrap_or(1);
            let answer = query_state(paths, waiting[index], until, share).await;
            drop(lock);
            match answer {
                Some(answer) => return answer,
                // Another program uses this monitor.
                None => drop(waiting.remove(index)),
            }
            if waiting.is_empty() {
                return MonitorAnswer::TimedOut;
            }
        }
    }

    async fn session(&self, paths: &RunPaths, timeout: Duration) -> Result<Box<dyn MonitorSession>, QmpError> {
        session(paths, timeout).await.map_err(|error| error.of_timeout(timeout))
    }
}

/// Runs a command on the command monitor.
async fn execute(paths: &RunPaths, command: &QmpCommand, timeout: Duration) -> Result<Value, QmpError> {
    let started = Instant::now();
    let until = started + timeout;
    let socket = paths.monitor(MonitorRole::Command);

    let lock = match lock_monitor(paths, MonitorRole::Command, until).await {
        Ok(Some(lock)) => lock,
        Ok(None) => return Err(queue_timed_out(started, timeout)),
        Err(error) => return Err(QmpError::MonitorUnavailable { socket, source: error.into() }),
    };
    let queued = started.elapsed();
    let mut session = match QmpSession::connect_until(&socket, until, GREETING_TIMEOUT).await {
        Err(error) if is_queue_to_blame(&error, queued) => return Err(queue_timed_out(started, timeout)),
        connected => connected.map_err(|error| unless_too_short(error, timeout))?.holding(lock),
    };
    session.execute_until(command, until).await
}

/// Opens a session on the first session monitor that is free.
async fn session(paths: &RunPaths, timeout: Duration) -> Result<Box<dyn MonitorSession>, QmpError> {
    let started = Instant::now();
    let until = started + timeout;
    let share = (timeout / 3).min(SESSION_GREETING_TIMEOUT);
    loop {
        let mut in_use = 0;
        let mut not_greeted = None;
        for role in [MonitorRole::SessionOne, MonitorRole::SessionTwo] {
            let socket = paths.monitor(role);
            match try_lock_monitor(paths, role) {
                Ok(Some(lock)) => match QmpSession::connect_until(&socket, until, share).await {
                    Ok(session) => return Ok(Box::new(session.keeping_events().holding(lock))),
                    Err(error @ (QmpError::GreetingTimedOut { .. } | QmpError::QueueTimedOut { .. })) => {
                        not_greeted = Some(error);
                    }
                    Err(error) => return Err(unless_too_short(error, timeout)),
                },
                Ok(None) => in_use += 1,
                Err(error) => return Err(QmpError::MonitorUnavailable { socket, source: error.into() }),
            }
        }
        if Instant::now() >= until {
            let error = not_greeted.map(|error| unless_too_short(error, timeout));
            let error = error.filter(|error| in_use == 0 || matches!(error, QmpError::ConnectTimedOut));
            return Err(error.unwrap_or(QmpError::SessionsInUse { after: round_to_millis(started.elapsed()) }));
        }
        retry_pause().await;
    }
}

/// Makes the error of a command that used up its time in the queue.
fn queue_timed_out(started: Instant, timeout: Duration) -> QmpError {
    unless_too_short(QmpError::QueueTimedOut { after: round_to_millis(started.elapsed()) }, timeout)
}

/// Returns whether a connection failed because the queue left too little time for it.
fn is_queue_to_blame(error: &QmpError, queued: Duration) -> bool {
    match error {
        QmpError::GreetingTimedOut { after, .. } => *after < queued && *after < GREETING_TIMEOUT,
        QmpError::Unresponsive { after, .. } => *after < queued && *after < MIN_CONCLUSIVE_SILENCE,
        _ => false,
    }
}

/// Returns the error of a monitor that could not be used in time; it says nothing about QEMU or other clients if
/// `timeout` was too short for an idle one.
fn unless_too_short(error: QmpError, timeout: Duration) -> QmpError {
    match error {
        QmpError::GreetingTimedOut { .. } | QmpError::Unresponsive { .. } | QmpError::QueueTimedOut { .. }
            if timeout < MIN_CONCLUSIVE_SILENCE =>
        {
            QmpError::ConnectTimedOut
        }
        error => error,
    }
}

/// Returns what is known of a VM whose monitor could not be reached.
///
/// Without the folder of the sockets, or without a listener, there is no QEMU. Anything else is a local error, such as too
/// many open files, and says nothing about the VM.
fn without_monitor(why: &io::Error) -> MonitorAnswer {
    match why.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => MonitorAnswer::TimedOut,
        _ => MonitorAnswer::Blocked,
    }
}

/// Queries the run state on one monitor; `None` if it did not accept the connection, or did not greet, within `share`.
async fn query_state(paths: &RunPaths, role: MonitorRole, until: Instant, share: Duration) -> Option<MonitorAnswer> {
    #[derive(Deserialize)]
    struct QueryStatus {
        status: RunState,
    }

    let reply = async {
        let mut session = QmpSession::connect_until(&paths.monitor(role), until, share).await?;
        session.execute_until(&QmpCommand::new("query-status"), until).await
    };
    match reply.await {
        Ok(reply) => Some(match QueryStatus::deserialize(reply) {
            Ok(reply) => MonitorAnswer::State(reply.status),
            Err(_) => MonitorAnswer::TimedOut,
        }),
        Err(QmpError::GreetingTimedOut { .. } | QmpError::QueueTimedOut { .. }) => None,
        Err(QmpError::Unresponsive { .. } | QmpError::TimedOut { .. }) => Some(MonitorAnswer::Blocked),
        Err(QmpError::MonitorUnavailable { source, .. }) => {
            Some(source.downcast_ref().map_or(MonitorAnswer::TimedOut, without_monitor))
        }
        Err(
            QmpError::SessionsInUse { .. }
            | QmpError::ConnectTimedOut
            | QmpError::CommandTooLarge { .. }
            | QmpError::FileUnavailable { .. }
            | QmpError::ConnectionClosed { .. }
            | QmpError::InvalidResponse { .. }
            | QmpError::Refused { .. },
        ) => Some(MonitorAnswer::TimedOut),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLIS: Duration = Duration::from_millis(1);

    /// Locking the monitor took longer than the zero timeout left for the greeting, as on a busy host.
    #[test]
    fn test_queue_timed_out_with_tiny_timeout_is_connect_timed_out() {
        let not_greeted = QmpError::GreetingTimedOut { socket: "/r/qmp.sock".into(), after: MILLIS };

        assert!(is_queue_to_blame(&not_greeted, 3 * MILLIS));
        assert!(matches!(queue_timed_out(Instant::now(), Duration::ZERO), QmpError::ConnectTimedOut));
    }

    #[test]
    fn test_queue_timed_out_with_enough_time_blames_queue() {
        assert!(matches!(queue_timed_out(Instant::now(), MIN_CONCLUSIVE_SILENCE), QmpError::QueueTimedOut { .. }));
    }
}
