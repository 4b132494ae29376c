//! Commands of QMP that somebody asks for: typed by the schema of the QEMU they are for, and looked at before they go.

mod complete;
mod line;
mod shell;

use std::time::Duration;

use maqet_domain::error::{Explain, Fault};
use maqet_domain::qmp::{DeviceProperties, HUMAN_MONITOR, HostAccess, Schema, SchemaError, hmp_failure, host_access};
use maqet_domain::qmp::{QmpCommand, QmpError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::complete::{Completions, completions};
pub use self::line::{InvalidLine, QmpLine};
pub use self::shell::QmpShell;
use crate::vm::monitor::Monitored;
use crate::{App, Error};

/// The command that tells the schema.
const QUERY_SCHEMA: &str = "query-qmp-schema";

/// The arguments of a command, in one of two forms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QmpArguments {
    /// As JSON, whose types stay as they are.
    Json(Map<String, Value>),
    /// As words, each `key=value`, which get the types of QEMU's schema.
    Words(Vec<String>),
}

impl Default for QmpArguments {
    fn default() -> Self {
        Self::Words(Vec::new())
    }
}

/// Why a QMP command was not sent, or not done though QEMU says so.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It does not fit the schema of the QEMU it is for.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// It reaches the host, and nobody said that it may.
    #[error("`{command}` {}", why.reason())]
    Dangerous {
        /// The command.
        command: String,
        /// What it could do.
        why: HostAccess,
    },
    /// The human monitor says in words that it did not do it.
    #[error("the human monitor did not do it: {why}")]
    HumanMonitor {
        /// Its words.
        why: String,
    },
}

impl CommandError {
    /// Returns the error as it may be written into logs: what was given may be a password.
    pub(crate) fn told_in_logs(&self) -> String {
        match self {
            Self::Schema(SchemaError::WrongValue { command, argument, .. }) => {
                format!("the value of `{argument}` of `{command}` does not fit")
            }
            Self::Schema(SchemaError::NotAnArgument { .. }) => "a word is not an argument".to_owned(),
            Self::HumanMonitor { .. } => "the human monitor did not do it".to_owned(),
            Self::Schema(_) | Self::Dangerous { .. } => self.to_string(),
        }
    }
}

impl Explain for CommandError {
    fn code(&self) -> &'static str {
        match self {
            Self::Schema(inner) => inner.code(),
            Self::Dangerous { .. } => "qmp.dangerous",
            Self::HumanMonitor { .. } => "qmp.hmp-refused",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::Schema(inner) => inner.fault(),
            Self::Dangerous { .. } => Fault::Usage,
            Self::HumanMonitor { .. } => Fault::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Schema(inner) => inner.hints(),
            Self::Dangerous { .. } => vec!["say `--allow-dangerous` if that is what you want".to_owned()],
            Self::HumanMonitor { .. } => Vec::new(),
        }
    }
}

/// Makes a command of what somebody asks for, and refuses what does not fit `schema` or reaches the host.
///
/// Errors: `Schema`, `Dangerous`.
pub fn read_command(
    schema: &Schema,
    name: &str,
    arguments: &QmpArguments,
    allows_dangerous: bool,
) -> Result<QmpCommand, CommandError> {
    let command = match arguments {
        QmpArguments::Words(words) => schema.command_of_words(name, words)?,
        QmpArguments::Json(map) => schema.command_of_json(name, map.clone())?,
    };
    match host_access(&command) {
        Some(why) if !allows_dangerous => Err(CommandError::Dangerous { command: command.execute, why }),
        Some(_) | None => Ok(command),
    }
}

/// Returns QEMU's answer to a command, unless it is one of the human monitor that tells of a failure.
///
/// Errors: `HumanMonitor`.
pub fn read_answer(command: &QmpCommand, answer: Value) -> Result<Value, CommandError> {
    let line =
        command.arguments.get("command-line").and_then(Value::as_str).filter(|_| command.execute == HUMAN_MONITOR);
    match line.zip(answer.as_str()).and_then(|(line, said)| hmp_failure(line, said)) {
        Some(why) => Err(CommandError::HumanMonitor { why }),
        None => Ok(answer),
    }
}

/// Checks the properties of a device that is to be added, and types those that came as words, by what QEMU `told` of
/// them ([`DeviceProperties::asked_for`]); a driver that QEMU tells nothing of is QEMU's to answer.
///
/// Errors: `Schema`, and what QEMU was asked in vain with.
pub(crate) fn with_properties(
    command: QmpCommand,
    arguments: &QmpArguments,
    told: Result<Value, QmpError>,
) -> Result<QmpCommand, Error> {
    let told = match told {
        Err(QmpError::Refused { .. }) => return Ok(command),
        told => told?,
    };
    let Some(properties) = DeviceProperties::of_reply(&told) else { return Ok(command) };
    match arguments {
        QmpArguments::Words(_) => Ok(properties.typed(command).map_err(CommandError::from)?),
        QmpArguments::Json(_) => {
            properties.check(&command).map_err(CommandError::from)?;
            Ok(command)
        }
    }
}

impl App {
    /// Returns the schema of the QEMU that runs a VM: what is kept of its build, else what it tells now.
    pub async fn qmp_schema(&self, vm: &str) -> Result<Schema, Error> {
        let monitored = self.monitored(vm).await?;
        self.schema_of(&monitored, self.timeouts().qmp).await
    }

    /// The same, waiting at most `deadline` for QEMU to tell it.
    pub(crate) async fn schema_of(&self, monitored: &Monitored, deadline: Duration) -> Result<Schema, Error> {
        let Monitored { run, process, .. } = monitored;
        if let Some(kept) = self.ports.schemas.kept(process) {
            return Ok(kept);
        }
        let asking = QmpCommand::new(QUERY_SCHEMA);
        let told = self.ports.monitors.execute(&run.paths, &asking, deadline).await?;
        let schema = Schema::of_reply(&told).map_err(|why| QmpError::Garbled { detail: why.to_string() })?;
        self.ports.schemas.keep(process, &schema);
        Ok(schema)
    }
}
