//! `qmp run`: a command on the monitor of a running VM.

use std::time::Duration;

use derive_setters::Setters;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::app::operations::{Done, Effect, Operation};
use crate::qmp::{QmpArguments, read_command, read_reply, refuse_abort, schema_of, with_properties};
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration};

/// Runs a QMP command and returns QEMU's `return` value.
///
/// Arguments are checked with the schema of the VM's QEMU before the command is sent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct QmpRun {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// The command, as in `query-status`.
    pub command: String,
    /// The arguments: an object, or a list of `key=value`.
    #[serde(default)]
    pub arguments: QmpArguments,
    /// The timeout; `timeouts.qmp` by default.
    pub timeout: Option<HumanDuration>,
    /// Whether the command may reach the host.
    #[serde(default)]
    pub allow_dangerous: bool,
}

impl QmpRun {
    /// Runs `command` without arguments.
    pub fn new(vm: impl Into<String>, command: impl Into<String>) -> Self {
        Self { vm: vm.into(), command: command.into(), ..Self::default() }
    }

    async fn send(&self, app: &App, vm: &Monitored<'_>) -> Result<Value, Error> {
        let timeout = self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration);
        self.send_within(app, vm, timeout).await.map_err(|error| error.of_timeout(timeout))
    }

    async fn send_within(&self, app: &App, vm: &Monitored<'_>, timeout: Duration) -> Result<Value, Error> {
        let until = Instant::now() + timeout;
        let left = || until.saturating_duration_since(Instant::now());
        let schema = schema_of(app, vm, left()).await?;
        let name = &vm.entry.name;
        let command = read_command(&schema, &self.command, &self.arguments, self.allow_dangerous)
            .map_err(|error| Error::command(name, error))?;
        vm.refuse_programs(&command)?;
        refuse_abort(vm, &command).await?;
        let command = with_properties(vm, command, &self.arguments).await?;
        let reply = vm.execute_watched(&command, left()).await?;
        read_reply(&command, reply).map_err(|error| Error::command(name, error))
    }
}

impl Operation for QmpRun {
    const NAME: &'static str = "qmp.run";
    const EFFECT: Effect = Effect::Acts;
    type Output = Value;

    async fn run(&self, app: &App) -> Result<Done<Value>, Error> {
        let vm = Monitored::find_unchecked(app, &self.vm).await?;
        let reply = vm.or_unresponsive(self.send(app, &vm).await)?;
        Ok(Done::reading(reply).about(vm.entry.id))
    }
}
