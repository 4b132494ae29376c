//! Results as text and tables.

mod backup;
mod checkpoint;
mod config;
mod database;
mod events;
mod exec;
mod hardware;
mod history;
mod host;
mod inspect;
mod keyboard;
mod lifecycle;
mod maintenance;
mod metrics;
mod qmp;
mod snapshot;
mod storage;
mod table;
mod template;
mod trash;
mod vm;

use std::fmt::Display;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use maqet::domain::network::Forward;

pub(crate) use self::events::event_line;
pub(crate) use self::qmp::QmpResponse;
use super::is_coloured;

const GOOD: Style = AnsiColor::Green.on_default();
const UNUSUAL: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const PLAIN: Style = Style::new();

/// A result that has a text form.
pub(crate) trait TextOutput {
    /// Writes the text, ending with a line break if there is any.
    fn write(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Returns the style for a state of a VM.
fn status_style(status: &str) -> Style {
    match status {
        "running" => GOOD,
        "starting" | "stopping" | "paused" | "suspended" | "busy" => UNUSUAL,
        "restore-failed" | "io-error" | "panicked" | "unreachable" => BAD,
        _ => PLAIN,
    }
}

/// Returns a style if results are colored, and a plain one if not.
fn if_coloured(style: Style) -> Style {
    if is_coloured() { style } else { PLAIN }
}

/// Returns a number with its noun, as in `2 problems`.
fn counted(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// Returns a forwarded port, as in `tcp 127.0.0.1:2222 to port 22`.
fn forward_text(forward: &Forward) -> String {
    let Forward { protocol, host_address, host_port, guest_port } = forward;
    format!("{protocol} {host_address}:{host_port} to port {guest_port}")
}

/// Returns a time without the fraction of its second.
fn whole_seconds(time: &impl Display) -> String {
    format!("{time:.0}")
}
