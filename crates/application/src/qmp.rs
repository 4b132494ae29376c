//! QMP commands from callers, typed and validated by the schema of the VM's QEMU.

mod complete;
mod line;
mod screendump;

use std::time::Duration;

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::port::MonitorSession;
use maqet_domain::qmp::wording::hmp_failure;
use maqet_domain::qmp::{
    DeviceProperties, HostAccessRefused, QmpCommand, QmpError, RunState, Schema, SchemaError, TypeQuery,
    check_host_access,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::complete::{Completions, completions};
pub use self::line::{InvalidQmpLine, QmpLine};
pub(crate) use self::screendump::refuse_abort;
use crate::vm::monitor::Monitored;
use crate::{App, Error};

/// The command that returns the schema.
const QUERY_SCHEMA: &str = "query-qmp-schema";

/// Returns the run state of a QEMU.
pub(crate) async fn run_state(session: &mut dyn MonitorSession, timeout: Duration) -> Result<RunState, QmpError> {
    let reply = session.execute(&QmpCommand::new("query-status"), timeout).await?;
    RunState::deserialize(&reply["status"])
        .map_err(|error| QmpError::InvalidResponse { detail: format!("`query-status`: {error}") })
}

/// The arguments of a command, in one of two forms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QmpArguments {
    /// JSON, whose types are kept.
    Json(Map<String, Value>),
    /// `key=value` each, converted to the types of QEMU's schema.
    KeyValue(Vec<String>),
}

impl Default for QmpArguments {
    fn default() -> Self {
        Self::KeyValue(Vec::new())
    }
}

/// Why a QMP command was not sent, or failed although QEMU reports success.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum CommandError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    HostAccess(#[from] HostAccessRefused),
    #[error("HMP command failed: {reason}")]
    HumanMonitor { reason: String },
    #[error("cannot dump the screen of device `{device}`: QEMU would abort over its text console")]
    ScreendumpRefused { device: String },
}

impl CommandError {
    /// Returns the message for logs, without values, which may be secret.
    pub(crate) fn for_logs(&self) -> String {
        match self {
            Self::Schema(SchemaError::InvalidValue { command, argument, .. }) => {
                format!("invalid value for `{argument}` of `{command}`")
            }
            Self::Schema(SchemaError::InvalidSyntax { .. }) => "invalid argument: expected `key=value`".to_owned(),
            Self::HumanMonitor { .. } => "HMP command failed".to_owned(),
            Self::Schema(_) | Self::HostAccess(_) | Self::ScreendumpRefused { .. } => self.to_string(),
        }
    }
}

impl Explain for CommandError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Schema(source) => source.explain(),
            Self::HostAccess(source) => source.explain(),
            Self::HumanMonitor { .. } => Explanation::new("qmp.hmp-failed", Fault::Failed),
            Self::ScreendumpRefused { .. } => Explanation::new("qmp.screendump-refused", Fault::State)
                .hint("leave out the device to dump the first screen")
                .hint("start the VM without text consoles: pass `-parallel none` and `-monitor none` under `args`"),
        }
    }
}

/// Makes a command, and refuses one that does not fit `schema` or could reach the host without permission.
///
/// Errors: `Schema`, `HostAccess`.
pub fn read_command(
    schema: &Schema,
    name: &str,
    arguments: &QmpArguments,
    allow_dangerous: bool,
) -> Result<QmpCommand, CommandError> {
    let command = match arguments {
        QmpArguments::KeyValue(args) => schema.command_from_args(name, args)?,
        QmpArguments::Json(map) => schema.command_from_json(name, map.clone())?,
    };
    check_host_access(&command, allow_dangerous)?;
    Ok(command)
}

/// Returns QEMU's reply to a command, unless it is that of the human monitor to a failed one.
///
/// Errors: `HumanMonitor`.
pub fn read_reply(command: &QmpCommand, reply: Value) -> Result<Value, CommandError> {
    let failure = command.human_monitor_line().zip(reply.as_str()).and_then(|(line, text)| hmp_failure(line, text));
    match failure {
        Some(reason) => Err(CommandError::HumanMonitor { reason }),
        None => Ok(reply),
    }
}

/// Checks the properties in a `device_add`, and converts those given as `key=value`, by the properties of its driver.
///
/// QEMU itself answers for a driver whose properties its build does not list, or cannot be asked for.
///
/// Errors: `Schema`.
pub(crate) async fn with_properties(
    vm: &Monitored<'_>,
    command: QmpCommand,
    arguments: &QmpArguments,
) -> Result<QmpCommand, Error> {
    let Some(query) = TypeQuery::properties_for(&command) else { return Ok(command) };
    let reply = vm.ask_build(&query).await.unwrap_or_else(|reason| {
        tracing::warn!(%reason, "the properties of the device are not checked");
        None
    });
    let Some(properties) = reply.as_ref().and_then(DeviceProperties::from_reply) else { return Ok(command) };
    let checked = match arguments {
        QmpArguments::KeyValue(_) => properties.typed(command),
        QmpArguments::Json(_) => properties.check(&command).map(|()| command),
    };
    checked.map_err(|error| Error::command(&vm.entry.name, error))
}

/// Returns the schema of the QEMU that runs a VM: the cached one of its build, else its own.
pub(crate) async fn schema_of(app: &App, vm: &Monitored<'_>, timeout: Duration) -> Result<Schema, Error> {
    // The build of a process that is not visible is not known.
    let process = vm.visible_process().ok();
    if let Some(cached) = process.and_then(|process| app.ports.schemas.get(process)) {
        return Ok(cached);
    }
    let reply = vm.execute_watched(&QmpCommand::new(QUERY_SCHEMA), timeout).await?;
    let schema = Schema::from_reply(&reply).map_err(|error| QmpError::InvalidResponse { detail: error.to_string() })?;
    if let Some(process) = process {
        app.ports.schemas.put(process, &schema);
    }
    Ok(schema)
}
