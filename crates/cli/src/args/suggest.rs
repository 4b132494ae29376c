//! Suggestions for command lines that clap rejects without one of its own.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue};
use maqet::Environment;

use super::Cli;

/// Returns a hint with the command line that was probably meant.
pub(crate) fn suggestion(error: &clap::Error, argv: &[OsString]) -> Option<String> {
    let suggested = swapped_snapshot(argv).or_else(|| match error.get(ContextKind::InvalidSubcommand)? {
        ContextValue::String(name) => nested(name),
        _ => None,
    })?;
    Some(format!("run `maqet {suggested}`"))
}

/// Returns the path of a command that is not a command of its own, such as `qmp device-add`.
pub(super) fn nested(name: &str) -> Option<String> {
    let whole = Cli::definition(&Environment::default());
    let parent = whole.get_subcommands().find(|parent| parent.find_subcommand(name).is_some())?;
    Some(format!("{} {name}", parent.get_name()))
}

/// Returns the arguments of `snapshot VM create …`, the order of maqet 0.0.15, in today's order.
fn swapped_snapshot(command_line: &[OsString]) -> Option<String> {
    const ACTIONS: [&str; 4] = ["create", "load", "rm", "ls"];
    let args: Vec<&str> = command_line.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    let at = args.iter().position(|arg| *arg == "snapshot")?;
    let (vm, action) = (args.get(at + 1)?, args.get(at + 2)?);
    let is_swapped = !ACTIONS.contains(vm) && ACTIONS.contains(action);
    is_swapped.then(|| {
        ["snapshot", action, vm].into_iter().chain(args.iter().skip(at + 3).copied()).collect::<Vec<_>>().join(" ")
    })
}
