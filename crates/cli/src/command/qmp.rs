//! `maqet qmp`.

use std::path::Path;

use maqet::{Maqet, QmpArguments, limits, operation};
use serde_json::Value;

use super::input::{self, Most};
use crate::args::QmpRunArgs;
use crate::exit_code;
use crate::failure::Failure;
use crate::render::progress;
use crate::render::{Output, QmpAnswer};

/// What a command takes at most.
const TAKEN: Most = Most {
    bytes: limits::MAX_QMP_ARGUMENTS_BYTES,
    what: "that a command takes at most",
    instead: "bring it to QEMU as a file",
};

/// Runs a QMP command and prints what QEMU returns.
pub(crate) async fn run(maqet: &Maqet, args: QmpRunArgs, output: &Output) -> Result<u8, Failure> {
    let what = format!("waiting for `{}`", args.command);
    let QmpRunArgs { vm, command, arguments, json, timeout, allow_dangerous } = args;
    let arguments = match json {
        Some(given) => json_arguments(&given, output).await?,
        None => QmpArguments::KeyValue(arguments),
    };
    let operation =
        operation::QmpRun::new(vm, command).arguments(arguments).timeout(timeout).allow_dangerous(allow_dangerous);
    let asked = operation.command.clone();
    let result = progress::shown(output.shows_progress, &what, maqet.run(operation)).await?;
    output.answer(&QmpAnswer { command: &asked, value: &result })?;
    Ok(exit_code::DONE)
}

/// Reads what `--json` gives: an object, a file that holds it, or standard input.
async fn json_arguments(given: &str, output: &Output) -> Result<QmpArguments, Failure> {
    let (text, name) = match given.strip_prefix('@') {
        Some(path) => (input::file(Path::new(path), TAKEN)?, path),
        None if given == "-" => (input::standard_input(TAKEN, output).await?, input::STANDARD_INPUT),
        None => (given.to_owned(), "--json"),
    };
    let not_one = |why: &str| {
        let hint = "write one JSON object, such as '{\"id\": \"hdd\"}'";
        Failure::usage(format!("`{name}` {why}"), vec![hint.to_owned()])
    };
    match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => Ok(QmpArguments::Json(map)),
        Ok(_) => Err(not_one("is JSON and no object")),
        Err(_) if text.trim().is_empty() => Err(not_one("has nothing in it")),
        Err(error) => Err(not_one(&format!("is not JSON: {error}"))),
    }
}
