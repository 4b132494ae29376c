//! `exec attach`: follows the output of a detached command, until it has ended.

use std::fmt;
use std::sync::Arc;

use derive_setters::Setters;
use maqet_domain::guest::{DetachedState, follow_detached};
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::guest::detached::DetachedCommands;
use crate::guest::streams::ExecStreams;
use crate::operation::guest::exec::{Exec, ExecOutcome, ExecResult};
use crate::operation::guest::ways::unless_stopped;
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration};

/// Follows the output of a detached command from its beginning, until the command has ended.
///
/// The command goes on if this does not wait for its end. Without [`streams`](Self::streams) of the caller, the output is
/// part of the result.
#[derive(Clone, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct ExecAttach {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// The ID of the command, or a unique prefix of it.
    pub command: String,
    /// How long to wait for the end of the command.
    pub timeout: Option<HumanDuration>,
    /// The streams of the caller; not part of the JSON.
    #[serde(skip)]
    #[setters(skip)]
    streams: Option<Arc<dyn ExecStreams>>,
}

impl fmt::Debug for ExecAttach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecAttach").field("vm", &self.vm).field("command", &self.command).finish_non_exhaustive()
    }
}

impl ExecAttach {
    /// Follows the command `command` of the VM `vm`.
    pub fn new(vm: impl Into<String>, command: impl Into<String>) -> Self {
        Self { vm: vm.into(), command: command.into(), timeout: None, streams: None }
    }

    /// Writes the output to streams of the caller, whose signals end only this.
    #[must_use]
    pub fn streams(self, streams: Arc<dyn ExecStreams>) -> Self {
        Self { streams: Some(streams), ..self }
    }
}

impl Operation for ExecAttach {
    const NAME: &'static str = "exec.attach";
    const EFFECT: Effect = Effect::Acts;
    type Output = ExecResult;

    async fn run(&self, app: &App) -> Result<Done<ExecResult>, Error> {
        let vm = Monitored::find_unchecked(app, &self.vm).await?;
        let found = async { Ok(DetachedCommands::open(app, &vm).await?.find(&self.command).await?) };
        let command = match found.await {
            Ok(command) => command,
            Err(error) => return Err(unless_stopped(app, &vm, error).await),
        };
        let exec = Exec::new(vm.entry.id.to_string(), follow_detached(&command.id)).timeout(self.timeout);
        let exec = self.streams.iter().fold(exec, |exec, streams| exec.streams(Arc::clone(streams)));
        let mut result = Box::pin(exec.run(app)).await?.value;
        if command.state == DetachedState::Lost && result.outcome == ExecOutcome::Exited {
            result.outcome = ExecOutcome::Lost;
            result.reason = Some("the guest was started again".to_owned());
        }
        if matches!(result.outcome, ExecOutcome::Interrupted | ExecOutcome::TimedOut) {
            result.reason = Some("it goes on".to_owned());
        }
        result.started_at = command.started_at;
        result.detached = Some(command.id);
        Ok(Done::reading(result).about(vm.entry.id))
    }
}
