//! `qmp run`: a command on the monitor of a running VM.

use maqet_domain::port::QmpCommand;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::call::{Done, Effect, Operation};
use crate::monitor::Monitored;
use crate::{App, Error, Patience};

/// Runs a QMP command and returns QEMU's `return` value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QmpRun {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
    /// The command, as in `query-status`.
    pub command: String,
    /// Its arguments.
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// How long it may take.
    #[serde(default)]
    pub timeout: Option<Patience>,
}

impl Operation for QmpRun {
    const NAME: &'static str = "qmp.run";
    const EFFECT: Effect = Effect::Acts;
    type Output = Value;

    async fn run(&self, app: &App) -> Result<Done<Value>, Error> {
        let Monitored { entry, run, process } = app.monitored(&self.vm).await?;
        let command = QmpCommand { execute: self.command.clone(), arguments: self.arguments.clone() };
        let deadline = self.timeout.map_or(app.timeouts().qmp, Patience::duration);
        let answer = app.ports.monitors.execute(&run.places, &command, deadline).await;
        if answer.is_err() {
            // It may have been stopped while it was asked, and then nothing else tells why.
            app.awake(&entry.name, &process)?;
        }
        Ok(Done::reading(answer?).about(entry.id))
    }
}
