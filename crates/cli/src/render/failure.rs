//! A failure on standard error: words for people, or JSON.

use anstyle::{AnsiColor, Style};
use serde_json::json;

use super::sanitize::{escape_control, escape_control_lines};
use super::snippet;
use crate::args::Format;
use crate::failure::Failure;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// Shows a failure.
pub(crate) fn show(failure: &Failure, format: Format) {
    match format {
        Format::Table | Format::Yaml => for_people(failure),
        Format::Json => anstream::eprintln!("{}", as_json(failure)),
    }
}

fn for_people(failure: &Failure) {
    match &failure.config {
        Some(config) => anstream::eprintln!("{}", snippet::render(config)),
        None => anstream::eprintln!("{ERROR}error{ERROR:#}: {}", escape_control(&failure.message)),
    }
    for cause in &failure.causes {
        anstream::eprintln!("  because: {}", escape_control_lines(cause).replace('\n', "\n           "));
    }
    for hint in &failure.hints {
        anstream::eprintln!("  {HINT}hint{HINT:#}: {}", escape_control(hint));
    }
}

/// Returns a failure as scripts see it.
pub(crate) fn as_json(failure: &Failure) -> serde_json::Value {
    let mut error = json!({
        "code": failure.code,
        "message": failure.message,
        "causes": failure.causes,
        "hints": failure.hints,
    });
    if !failure.problems().is_empty() {
        error["problems"] = json!(failure.problems());
    }
    json!({ "error": error })
}
