//! `qmp run`: a command on the monitor of a running VM.

use std::time::Instant;

use maqet_domain::qmp::DeviceProperties;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::operations::{Done, Effect, Operation};
use crate::qmp::{QmpArguments, read_answer, read_command, with_properties};
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration};

/// Runs a QMP command and returns QEMU's `return` value.
///
/// What does not fit the schema of the VM's QEMU is refused before that is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QmpRun {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
    /// The command, as in `query-status`.
    pub command: String,
    /// Its arguments: an object, or a list of words, each `key=value`.
    #[serde(default)]
    pub arguments: QmpArguments,
    /// How long it may take.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
    /// Whether it may reach the host.
    #[serde(default)]
    pub allow_dangerous: bool,
}

impl Operation for QmpRun {
    const NAME: &'static str = "qmp.run";
    const EFFECT: Effect = Effect::Acts;
    type Output = Value;

    async fn run(&self, app: &App) -> Result<Done<Value>, Error> {
        let monitored = app.monitored(&self.vm).await?;
        let outcome = self.ask(app, &monitored).await;
        let Monitored { entry, process, .. } = monitored;
        if let Err(Error::Qmp(_)) = &outcome {
            // It may have been stopped while it was asked, and then nothing else tells why.
            app.ensure_responsive(&entry.name, &process)?;
        }
        Ok(Done::reading(outcome?).about(entry.id))
    }
}

impl QmpRun {
    async fn ask(&self, app: &App, monitored: &Monitored) -> Result<Value, Error> {
        let (started, deadline) = (Instant::now(), self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration));
        let schema = app.schema_of(monitored, deadline).await?;
        let command = read_command(&schema, &self.command, &self.arguments, self.allow_dangerous)?;
        app.refuse_programs(&monitored.entry.name, &monitored.process, &command)?;
        let left = || deadline.saturating_sub(started.elapsed());
        let paths = &monitored.run.paths;
        let command = match DeviceProperties::asked_for(&command) {
            Some(asking) => {
                with_properties(command, &self.arguments, app.ports.monitors.execute(paths, &asking, left()).await)?
            }
            None => command,
        };
        let answer = app.ports.monitors.execute(paths, &command, left()).await?;
        Ok(read_answer(&command, answer)?)
    }
}
