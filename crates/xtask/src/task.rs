//! Progress messages of tasks.

use anstyle::{AnsiColor, Style};

/// Announces a step.
pub(crate) fn step(what: &str) {
    let green = AnsiColor::Green.on_default().bold();
    anstream::eprintln!("{green}==>{green:#} {what}");
}

/// Adds a remark to the current step.
pub(crate) fn remark(what: &str) {
    anstream::eprintln!("    {what}");
}

/// Prints a warning.
pub(crate) fn warning(what: &str) {
    let yellow = AnsiColor::Yellow.on_default().bold();
    anstream::eprintln!("{yellow}warning:{yellow:#} {what}");
}

/// Prints a command of the task itself before it runs.
pub(crate) fn prompt(command: &str) {
    let bold = Style::new().bold();
    anstream::eprintln!("{bold}$ {command}{bold:#}");
}

/// Prints a command whose output is the result of the task, to the same stream as that output.
pub(crate) fn typed(command: &str) {
    let bold = Style::new().bold();
    anstream::println!("{bold}$ {command}{bold:#}");
}
