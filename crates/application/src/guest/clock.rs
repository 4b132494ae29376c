//! The clock of a guest that did not run for a while, which is behind by that.

use jiff::Timestamp;
use maqet_domain::guest::AgentCommand;
use maqet_domain::port::AgentError;
use maqet_domain::vm::RunPaths;

use super::agent::Agent;
use super::channels::Channels;
use crate::{App, limits};

/// Has the agent set the clock, if one runs; returns whether it did.
///
/// It is no error that the clock is not set: the guest runs, and may set it on its own.
pub(crate) async fn set_clock(app: &App, paths: &RunPaths) -> bool {
    let channels = Channels::of_run(&*app.ports.monitors, paths).await;
    if !channels.is_ok_and(|channels| channels.agent() == Some(true)) {
        return false;
    }
    match set_by_agent(app, paths).await {
        Ok(()) => true,
        Err(error) => {
            tracing::info!(%error, "the guest agent did not set the clock");
            false
        }
    }
}

async fn set_by_agent(app: &App, paths: &RunPaths) -> Result<(), AgentError> {
    let agent = Agent { agents: &*app.ports.agents, paths };
    let mut session = agent.session(limits::AGENT_TIMEOUT).await?;
    // After the session was opened, which may take a while.
    let command = set_time(app.ports.clock.now());
    session.execute(&command, limits::MAX_AGENT_REPLY_BYTES, limits::SET_CLOCK_TIMEOUT).await.map(drop)
}

/// Returns the request that sets the clock; without a time, the agent would read the real-time clock.
fn set_time(now: Timestamp) -> AgentCommand {
    let nanoseconds = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
    AgentCommand::new("guest-set-time").argument("time", nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_set_time_is_in_nanoseconds_since_1970() {
        let now: Timestamp = "2026-11-30T16:00:00.000000005Z".parse().unwrap();

        assert_eq!(set_time(now).arguments["time"], 1_796_054_400_000_000_005_i64);
    }
}
