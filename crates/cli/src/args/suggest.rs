//! Suggestions for command lines that clap rejects without one of its own.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use maqet::Environment;
use maqet::domain::text::similar;

use super::Cli;
use super::qmp::DEFINITIONS;

/// Returns a hint with the command line that was probably meant, or the option that stands for missing arguments.
pub(crate) fn suggestion(error: &clap::Error, argv: &[OsString]) -> Option<String> {
    if error.kind() == ErrorKind::MissingRequiredArgument {
        return instead_of_missing(error, argv).map(str::to_owned);
    }
    let suggested = swapped_snapshot(argv).or_else(|| match error.get(ContextKind::InvalidSubcommand)? {
        ContextValue::String(name) => nested(name),
        _ => None,
    })?;
    Some(format!("run `maqet {suggested}`"))
}

/// Returns the option that may be given instead of missing arguments.
fn instead_of_missing(error: &clap::Error, argv: &[OsString]) -> Option<&'static str> {
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else { return None };
    let has_option = |id: &str, help: &str| {
        let mut command = &Cli::definition(&Environment::default());
        for arg in argv.iter().skip(1) {
            command = arg.to_str().and_then(|name| command.find_subcommand(name)).unwrap_or(command);
        }
        command
            .get_arguments()
            .any(|arg| arg.get_id() == id && arg.get_help().is_some_and(|shown| shown.to_string().starts_with(help)))
    };
    if missing.iter().any(|name| name.starts_with("<VM>")) && has_option("all", "All VMs") {
        return Some("name the VMs, or pass `--all` for all of them");
    }
    let has_no_file = missing.iter().any(|name| name.starts_with("<FILE>"));
    (has_no_file && has_option("empty", "Define a VM")).then_some("pass `--empty` for a VM with default values")
}

/// Returns the commands of `qmp` that resemble a name that is that of no VM.
pub(crate) fn similar_qmp_commands(name: &str) -> Vec<String> {
    similar(name, DEFINITIONS.iter().map(|(command, _)| *command))
}

/// Returns the path of a command that is not a command of its own, such as `qmp device-add`.
pub(super) fn nested(name: &str) -> Option<String> {
    let whole = Cli::definition(&Environment::default());
    let parent = whole.get_subcommands().find(|parent| parent.find_subcommand(name).is_some())?;
    Some(format!("{} {name}", parent.get_name()))
}

/// Returns the arguments of `snapshot VM create …`, the order of maqet 0.0.15, in today's order.
fn swapped_snapshot(command_line: &[OsString]) -> Option<String> {
    const ACTIONS: [&str; 6] = ["create", "load", "rm", "ls", "list", "check"];
    let args: Vec<&str> = command_line.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    let at = args.iter().position(|arg| *arg == "snapshot")?;
    let (vm, action) = (args.get(at + 1)?, args.get(at + 2)?);
    let is_swapped = !ACTIONS.contains(vm) && ACTIONS.contains(action);
    is_swapped.then(|| {
        ["snapshot", action, vm].into_iter().chain(args.iter().skip(at + 3).copied()).collect::<Vec<_>>().join(" ")
    })
}
