//! The command line: global options and commands, a file for each group of commands.

mod config;
mod console;
mod define;
mod events;
mod global;
mod hardware;
mod inspect;
mod keyboard;
mod lifecycle;
mod logs;
mod qmp;
mod screen;
mod shell;
mod snapshot;
mod wait;

use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use maqet::Environment;
use maqet::operation::{Cleanup, Doctor, Info, Ls};

pub(crate) use self::config::ConfigSubcommand;
pub(crate) use self::console::ConsoleArgs;
pub(crate) use self::define::{AddArgs, ApplyArgs};
pub(crate) use self::events::{EventsArgs, QmpEventsArgs, WatchArgs};
pub(crate) use self::global::{Choice, Color, Format, Global};
use self::global::{Verbosity, last_verbosity};
pub(crate) use self::hardware::HardwareSubcommand;
pub(crate) use self::inspect::InspectArgs;
pub(crate) use self::keyboard::{KeysArgs, TypeArgs};
pub(crate) use self::lifecycle::{PowerOffArgs, Press, RestartArgs, RmArgs, StartArgs, Status, StopArgs, VmsArgs};
pub(crate) use self::logs::LogsArgs;
pub(crate) use self::qmp::{QmpArgs, QmpRunArgs, QmpSubcommand};
pub(crate) use self::screen::ScreenshotArgs;
pub(crate) use self::shell::QmpShellArgs;
pub(crate) use self::snapshot::SnapshotSubcommand;
pub(crate) use self::wait::WaitArgs;
use crate::exit_code;

const EXAMPLES: &str = "\
Examples:
  maqet add web.yaml            define a VM from a YAML file
  maqet start web               start it; returns when QMP answers
  maqet ls                      see all VMs and their states
  maqet qmp web query-status    talk to its QEMU, from any process
  maqet stop web                press its power button, and see it off

Results go to standard output, everything else to standard error; with
`--format json` both are JSON.";

/// Automate QEMU virtual machines
#[derive(Debug, Parser)]
#[command(name = "maqet", version, after_help = EXAMPLES, after_long_help = long_help(), max_term_width = 100)]
#[command(propagate_version = false, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the words of a command line, and the variables that stand in for options.
    ///
    /// A variable that is empty counts as unset, and any flag beats any variable.
    pub(crate) fn read(words: &[OsString], environment: &Environment) -> Result<Self, clap::Error> {
        // What the one command cannot read is told by them all: a near name, a usage, the help.
        Self::about_one(words)
            .and_then(|command| Self::parsed(command, words, environment).ok())
            .map_or_else(|| Self::parsed(Self::command(), words, environment), Ok)
    }

    /// Returns a command line that knows the one command which `words` seem to name.
    ///
    /// clap copies the global options into each command it knows, which is a third of the work of a short one. Words
    /// that this reads mean the same to all commands together, because a word is a command's name or it is none.
    fn about_one(words: &[OsString]) -> Option<clap::Command> {
        let is_option = |word: &OsString| word.as_encoded_bytes().starts_with(b"-");
        let at = 1 + words.iter().skip(1).position(|word| !is_option(word))?;
        let all = Command::augment_subcommands(clap::Command::new("maqet"));
        let one = match (all.find_subcommand(&words[at])?, words.get(at + 1)) {
            // It has as many commands again.
            (one, Some(next)) if one.get_name() == "qmp" && !is_option(next) => QmpArgs::about_one(next),
            (one, _) => one.clone(),
        };
        Some(Global::augment_args(clap::Command::new("maqet")).subcommand_required(true).subcommand(one))
    }

    /// Tells where a command is that was looked for among the first ones, as `device-add`, which is one of `qmp`.
    pub(crate) fn elsewhere(name: &str) -> Option<String> {
        let mut whole = Self::command();
        whole.build();
        let has_it = |above: &&clap::Command| above.get_name() != "help" && above.find_subcommand(name).is_some();
        let above = whole.get_subcommands().find(has_it)?.get_name();
        Some(format!("write `maqet {above} {name}`"))
    }

    fn parsed(command: clap::Command, words: &[OsString], environment: &Environment) -> Result<Self, clap::Error> {
        let is_empty = |name: &OsStr| environment.get_raw(name).is_some_and(OsStr::is_empty);
        let mut command = command.mut_args(|arg| match arg.get_env() {
            Some(name) if is_empty(name) => arg.env(Resettable::Reset),
            Some(_) | None => arg,
        });
        let mut matches = command.try_get_matches_from_mut(words)?;
        let is_variable = |id: &str| matches.value_source(id) == Some(ValueSource::EnvVariable);
        let by_variable: Vec<&str> = Global::SETTINGS.into_iter().filter(|id| is_variable(id)).collect();
        let by_flag = ["verbose", "quiet"].map(|name| matches.value_source(name) == Some(ValueSource::CommandLine));
        let is_default = matches.value_source("format") == Some(ValueSource::DefaultValue);
        let mut arguments = Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
        arguments.global.settle(match by_flag {
            [true, false] => Verbosity::Verbose,
            [true, true] => last_verbosity(words),
            [false, _] => Verbosity::Quiet,
        });
        arguments.global.unset_if_default(&by_variable);
        arguments.global.format_choice = if is_default { Choice::Default } else { Choice::Asked };
        Ok(arguments)
    }
}

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{}", exit_code::TABLE)
}

/// The commands. The words here stand in the list of commands; a command's own help shows those of its arguments.
///
/// Deferred, so that a run builds the arguments of the one command it is about: those of all are a third of the work of
/// a short command.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Command {
    /// Define a VM from YAML files and flags
    Add(AddArgs),
    /// Change a VM's definition
    Apply(ApplyArgs),
    /// Start VMs; returns when QMP answers
    Start(StartArgs),
    /// Stop VMs: power button, then quit, then signals
    Stop(StopArgs),
    /// Stop VMs, if they run, and start them again
    Restart(RestartArgs),
    /// Wait until conditions about VMs come true
    Wait(WaitArgs),
    /// Have running VMs stand still
    Pause(Press),
    /// Have VMs that stand still go on
    Resume(Press),
    /// Press the reset button of VMs: a power cut, and a new boot
    Reset(Press),
    /// Remove VMs; their disks stay
    Rm(RmArgs),
    /// List VMs and their states
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Tell the state of VMs
    Status(Status),
    /// Show what happened: to all VMs or to one
    Events(EventsArgs),
    /// Show a VM's definition and its QEMU command line
    Info(Info),
    /// Show what VMs really are and cost: process, memory, disks, sockets
    Inspect(InspectArgs),
    /// Read what the guest, QEMU and maqet wrote about a VM
    Logs(LogsArgs),
    /// Attach to the serial console of a running VM
    Console(ConsoleArgs),
    /// Press keys of a running VM
    Keys(KeysArgs),
    /// Type a text at a running VM
    Type(TypeArgs),
    /// Take a picture of a running VM's screen
    Screenshot(ScreenshotArgs),
    /// Talk to the QEMU of a running VM
    Qmp(QmpArgs),
    /// Make, list, load and remove snapshots of a stopped VM's drives
    #[command(subcommand)]
    Snapshot(SnapshotSubcommand),
    /// Look at host, database, VMs and leftovers
    Doctor(Doctor),
    /// Remove what nobody needs any more
    Cleanup(Cleanup),
    /// Check configurations, and show keys, defaults and settings
    #[command(subcommand)]
    Config(ConfigSubcommand),
}

#[cfg(test)]
mod tests;
