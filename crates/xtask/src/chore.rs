//! How a chore tells what it is doing.

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

/// Says something that must not be overlooked.
pub(crate) fn warning(what: &str) {
    let yellow = AnsiColor::Yellow.on_default().bold();
    anstream::eprintln!("{yellow}warning:{yellow:#} {what}");
}

/// Shows a command of the chore itself before it runs.
pub(crate) fn prompt(command: &str) {
    let bold = Style::new().bold();
    anstream::eprintln!("{bold}$ {command}{bold:#}");
}

/// Shows a command whose output is the chore's result, as a line of the same transcript.
pub(crate) fn typed(command: &str) {
    let bold = Style::new().bold();
    anstream::println!("{bold}$ {command}{bold:#}");
}
