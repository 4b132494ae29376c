//! `maqet qmp run`.

use std::path::Path;

use maqet::domain::text::did_you_mean;
use maqet::{ErrorReport, Maqet, QmpArguments, limits, operation};
use serde_json::Value;

use super::input::{self, Limit};
use crate::args::{QmpRunArgs, similar_qmp_commands};
use crate::error::usage;
use crate::exit_code;
use crate::render::{Output, QmpResponse};

const ARGUMENTS_LIMIT: Limit = Limit {
    bytes: limits::MAX_QMP_ARGUMENTS_BYTES,
    subject: "QMP arguments",
    hint: "pass large data to QEMU as a file",
};

pub(super) async fn run(maqet: &Maqet, args: QmpRunArgs, output: &Output) -> Result<u8, ErrorReport> {
    let QmpRunArgs { vm, command, arguments, json, timeout, allow_dangerous } = args;
    let arguments = match json {
        Some(json) => json_arguments(&json, output).await?,
        None => QmpArguments::KeyValue(arguments),
    };
    let message = format!("waiting for `{command}`");
    let operation = operation::QmpRun::new(vm, command.clone())
        .arguments(arguments)
        .timeout(timeout)
        .allow_dangerous(allow_dangerous);
    let value = output.progress(&message, maqet.run(operation)).await.map_err(|error| match &error {
        maqet::Error::NoSuchVm { name, .. } => {
            let meant =
                similar_qmp_commands(name).into_iter().map(|meant| format!("maqet qmp {meant}")).collect::<Vec<_>>();
            match did_you_mean(&meant) {
                Some(hint) => ErrorReport::from(error).hint(hint),
                None => error.into(),
            }
        }
        _ => error.into(),
    })?;
    output.show_response(&QmpResponse { command: &command, value: &value })?;
    Ok(exit_code::DONE)
}

/// Reads the value of `--json`: an object, `@` and a file, or `-` for standard input.
async fn json_arguments(value: &str, output: &Output) -> Result<QmpArguments, ErrorReport> {
    let (text, name) = match value.strip_prefix('@') {
        Some(path) => (input::file(Path::new(path), ARGUMENTS_LIMIT)?, path),
        None if value == "-" => (input::standard_input(ARGUMENTS_LIMIT, output).await?, input::STANDARD_INPUT),
        None => (value.to_owned(), "--json"),
    };
    let invalid =
        |problem: &str| usage(format!("`{name}` {problem}")).hint("pass a JSON object, such as '{\"id\": \"hdd\"}'");
    match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => Ok(QmpArguments::Json(map)),
        Ok(_) => Err(invalid("is not a JSON object")),
        Err(_) if text.trim().is_empty() => Err(invalid("is empty")),
        Err(error) => Err(invalid(&format!("is not JSON: {error}"))),
    }
}
