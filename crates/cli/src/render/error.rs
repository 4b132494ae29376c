//! Errors on standard error, as text or JSON.

use anstyle::{AnsiColor, Style};
use maqet::ErrorReport;

use super::sanitize::{escape_control, escape_control_lines};
use super::snippet;
use crate::args::Format;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// Shows an error.
pub(crate) fn show(report: &ErrorReport, format: Format) {
    match format {
        Format::Table | Format::Yaml | Format::Prometheus => show_text(report),
        Format::Json => anstream::eprintln!("{}", report.to_document()),
    }
}

fn show_text(report: &ErrorReport) {
    if report.problems.is_empty() {
        anstream::eprintln!("{ERROR}error{ERROR:#}: {}", escape_control(&report.message));
    } else {
        anstream::eprintln!("{}", snippet::render(&report.problems, &report.sources));
    }
    for cause in &report.causes {
        anstream::eprintln!("  caused by: {}", escape_control_lines(cause).replace('\n', "\n             "));
    }
    for hint in &report.hints {
        anstream::eprintln!("  {HINT}hint{HINT:#}: {}", escape_control(hint));
    }
}
