//! Detached commands: how they are started, and what the guest says about them.

use std::time::Duration;

use maqet_domain::guest::{
    CommandStatus, DetachedCommand, ExecFailure, ExecWay, ExitStatus, Nonce, ProcessSignal, had_exited, list_detached,
    remove_detached, signal_detached,
};
use maqet_domain::port::AgentError;
use maqet_domain::text::escaped;
use maqet_domain::vm::VmName;

use super::agent::Agent;
use super::channels::Channels;
use super::error::ExecError;
use super::pump::PumpEnd;
use super::request::ExecRequest;
use super::streams::ExecStreams;
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration, limits};

/// The detached commands of a guest whose agent runs.
pub(crate) struct DetachedCommands<'a> {
    vm: &'a Monitored<'a>,
    agent: Agent<'a>,
}

impl<'a> DetachedCommands<'a> {
    /// Finds the agent.
    ///
    /// Errors: `NoAgent`, `Agent`.
    pub(crate) async fn open(app: &'a App, vm: &'a Monitored<'a>) -> Result<Self, Error> {
        let name = &vm.entry.name;
        let channels = vm.or_unresponsive(Channels::query(vm).await)?;
        let no_channel = || ExecError::Agent { vm: name.clone(), source: AgentError::NoChannel };
        if !channels.agent().ok_or_else(no_channel)? {
            return Err(ExecError::NoAgent { vm: name.clone() }.into());
        }
        Ok(Self { vm, agent: Agent { agents: &*app.ports.agents, paths: &vm.run.paths } })
    }

    /// Starts a command, and removes records that are too many.
    pub(crate) async fn start(
        &self,
        request: &ExecRequest,
        started_at: jiff::Timestamp,
        streams: &dyn ExecStreams,
    ) -> Result<PumpEnd, ExecError> {
        let vm = &self.vm.entry.name;
        let way = ExecWay::Detached { is_merged: request.is_merged, started_at };
        let start = request.command.start(&request.nonce, way, None);
        let started = match request.before_start(streams, self.agent.complete(&start, limits::DETACH_POLLS)).await {
            Ok(started) => started.map_err(|source| ExecError::Agent { vm: vm.clone(), source })?,
            Err(end) => return Ok(end),
        };
        let Some(status) = started else {
            let after = HumanDuration::new(limits::AGENT_TOOL_INTERVAL * limits::DETACH_POLLS);
            return Err(ExecError::TimedOut { vm: vm.clone(), after });
        };
        if let Some(failure) = ExecFailure::from_stderr(&request.nonce, &status.stderr) {
            return Err(ExecError::of(failure, vm, &request.command));
        }
        if status.exit != Some(ExitStatus::Code(0)) {
            let reason = escaped(String::from_utf8_lossy(&status.stderr).trim(), limits::MAX_REASON_CHARS);
            return Err(ExecError::Failed { vm: vm.clone(), reason });
        }
        if let Err(error) = self.tidy().await {
            tracing::debug!(%error, "cannot remove the records of detached commands");
        }
        Ok(PumpEnd::Detached)
    }

    /// Lists them, oldest first.
    pub(crate) async fn list(&self) -> Result<Vec<DetachedCommand>, ExecError> {
        let status = self.agent.complete(&list_detached(), limits::AGENT_OUTPUT_POLLS).await;
        listed(&self.vm.entry.name, status.map_err(|source| self.failed(source))?)
    }

    /// Finds the one whose ID begins so.
    ///
    /// Errors: `DetachedNotFound`, `DetachedAmbiguous`, `Agent`.
    pub(crate) async fn find(&self, id: &str) -> Result<DetachedCommand, ExecError> {
        let vm = self.vm.entry.name.clone();
        let mut found = self.list().await?;
        found.retain(|command| !id.is_empty() && command.id.starts_with(id));
        match found.pop() {
            None => Err(ExecError::DetachedNotFound { vm, id: id.to_owned() }),
            Some(command) if found.is_empty() => Ok(command),
            Some(_) => Err(ExecError::DetachedAmbiguous { vm, id: id.to_owned() }),
        }
    }

    /// Sends SIGTERM, and SIGKILL to what is left of it after `kill_after`; returns how it ended, once it has, and whether
    /// it ran before.
    pub(crate) async fn stop(&self, id: &str, kill_after: Duration) -> Result<(DetachedCommand, bool), ExecError> {
        let signal = signal_detached(id, ProcessSignal::Term);
        let sent =
            self.agent.complete(&signal, limits::AGENT_TOOL_POLLS).await.map_err(|source| self.failed(source))?;
        let had_ended = sent.and_then(|status| status.exit).is_some_and(had_exited);
        let kill_at = tokio::time::Instant::now() + kill_after;
        let mut give_up_at = None;
        loop {
            let command = self.find(id).await?;
            if command.has_ended() || had_ended {
                return Ok((command, !had_ended));
            }
            let now = tokio::time::Instant::now();
            if give_up_at.is_some_and(|at| now >= at) {
                let after = HumanDuration::new(kill_after + limits::EXEC_GIVE_UP);
                return Err(ExecError::DetachedTimedOut { vm: self.vm.entry.name.clone(), id: id.to_owned(), after });
            }
            if give_up_at.is_none() && now >= kill_at {
                give_up_at = Some(now + limits::EXEC_GIVE_UP);
                self.kill(id).await?;
            }
            tokio::time::sleep(limits::DETACHED_INTERVAL).await;
        }
    }

    async fn kill(&self, id: &str) -> Result<(), ExecError> {
        let signal = signal_detached(id, ProcessSignal::Kill);
        let failed = |source| self.failed(source);
        self.agent.complete(&signal, limits::AGENT_TOOL_POLLS).await.map_err(failed)?;
        let Some(nonce) = Nonce::parse(id) else { return Ok(()) };
        self.agent.sweep(&nonce, None).await.map_err(failed)
    }

    /// Removes records that are too many.
    async fn tidy(&self) -> Result<(), ExecError> {
        let commands = self.list().await?;
        let outdated = DetachedCommand::outdated(&commands);
        if !outdated.is_empty() {
            let remove = remove_detached(&outdated);
            self.agent.complete(&remove, limits::AGENT_TOOL_POLLS).await.map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    fn failed(&self, source: AgentError) -> ExecError {
        ExecError::Agent { vm: self.vm.entry.name.clone(), source }
    }
}

/// Reads the list that a guest printed; one that has not finished it is no guest without commands.
///
/// Errors: `ListTimedOut`, `ListFailed`.
fn listed(vm: &VmName, status: Option<CommandStatus>) -> Result<Vec<DetachedCommand>, ExecError> {
    let Some(status) = status else {
        let after = HumanDuration::new(limits::AGENT_TOOL_INTERVAL * limits::AGENT_OUTPUT_POLLS);
        return Err(ExecError::ListTimedOut { vm: vm.clone(), after });
    };
    if status.exit != Some(ExitStatus::Code(0)) {
        let reason = escaped(String::from_utf8_lossy(&status.stderr).trim(), limits::MAX_REASON_CHARS);
        return Err(ExecError::ListFailed { vm: vm.clone(), reason });
    }
    Ok(DetachedCommand::from_list(&status.stdout))
}

#[cfg(test)]
mod tests {
    use maqet_domain::error::Explain;

    use super::*;

    #[test]
    fn test_list_that_was_not_finished_is_an_error() {
        let vm: VmName = "v".parse().unwrap();
        let status = |code| CommandStatus { exit: Some(ExitStatus::Code(code)), ..CommandStatus::default() };

        let slow = listed(&vm, None).unwrap_err();
        let failed = listed(&vm, Some(CommandStatus { stderr: b"no room\n".to_vec(), ..status(2) })).unwrap_err();

        assert_eq!(slow.code(), "guest.command-timed-out");
        assert_eq!(failed.to_string(), "cannot list the detached commands in VM `v`: no room");
        assert_eq!(listed(&vm, Some(status(0))).unwrap(), []);
    }
}
