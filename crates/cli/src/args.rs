//! The command line: global options and commands, a file for each group of commands.
//!
//! A short command takes a few milliseconds, and clap needs a noticeable part of them to build the definition of all
//! commands: it copies the global options into each of them. [`Cli::parse`] therefore first tries a definition with
//! only the command that the arguments seem to name ([`DEFINITIONS`]). If that fails, the arguments are parsed again
//! with the definition of all commands, for help, suggestions and usage errors. The first definition accepts nothing
//! that the second would reject, which a test checks. Where the arguments name no command, as in `--help`, a definition
//! without the arguments of commands is tried first ([`COMMANDS`]).

mod backup;
mod checkpoint;
mod config;
mod console;
mod cp;
mod database;
mod define;
mod events;
mod exec;
mod global;
mod hardware;
mod host;
mod inspect;
mod keyboard;
mod lifecycle;
mod logs;
mod metrics;
mod qmp;
mod run;
mod screen;
mod shell;
mod snapshot;
mod storage;
mod suggest;
mod template;
mod wait;

use std::ffi::{OsStr, OsString};
use std::str::FromStr;

use clap::{Args, FromArgMatches, Subcommand};
use maqet::Environment;
use maqet::operation::{Cleanup, Doctor, Fork, HistoryLs, Info, Ls, Redo, SshConfig, Undo, Upgrade};

pub(crate) use self::backup::BackupSubcommand;
pub(crate) use self::checkpoint::CheckpointSubcommand;
pub(crate) use self::config::ConfigSubcommand;
pub(crate) use self::console::ConsoleArgs;
pub(crate) use self::cp::CpArgs;
pub(crate) use self::database::DatabaseSubcommand;
pub(crate) use self::define::{AddArgs, ApplyArgs};
pub(crate) use self::events::{EventsArgs, QmpEventsArgs, WatchArgs};
pub(crate) use self::exec::{ExecArgs, ExecAttachArgs, ExecRunArgs, ExecSubcommand, ShellArgs};
pub(crate) use self::global::{Color, Format, GlobalArgs, LogFormat};
pub(crate) use self::hardware::HardwareSubcommand;
pub(crate) use self::host::HostSubcommand;
pub(crate) use self::inspect::InspectArgs;
pub(crate) use self::keyboard::{KeysArgs, TypeArgs};
pub(crate) use self::lifecycle::{RestartArgs, RmArgs, StartArgs, StopArgs, StopOptions, VmsArgs};
pub(crate) use self::logs::LogsArgs;
pub(crate) use self::metrics::MetricsArgs;
pub(crate) use self::qmp::{QmpArgs, QmpRunArgs, QmpSubcommand};
pub(crate) use self::run::RunArgs;
pub(crate) use self::screen::ScreenshotArgs;
pub(crate) use self::shell::QmpShellArgs;
pub(crate) use self::snapshot::SnapshotSubcommand;
pub(crate) use self::storage::{StorageSubcommand, StorageTrashSubcommand};
pub(crate) use self::suggest::{similar_qmp_commands, suggestion};
pub(crate) use self::template::{TemplateCreateArgs, TemplateSubcommand};
pub(crate) use self::wait::WaitArgs;
use crate::exit_code;

const ABOUT: &str = "Automate QEMU virtual machines";

const EXAMPLES: &str = "\
Examples:
  maqet add web.yaml            define a VM from a YAML file
  maqet start web               start it and wait until QMP answers
  maqet ls                      list VMs and their states
  maqet qmp web query-status    run a QMP command
  maqet stop web                shut it down

Results go to standard output, everything else to standard error; with
`--format json` both are JSON.";

/// A command line.
#[derive(Debug)]
pub(crate) struct Cli {
    pub(crate) global: GlobalArgs,
    pub(crate) command: Command,
}

impl Cli {
    /// Parses a command line, and the variables that stand for options.
    pub(crate) fn parse(argv: &[OsString], environment: &Environment) -> Result<Self, clap::Error> {
        let parsed = if argv.iter().skip(1).all(is_option) {
            Self::parse_with(Self::definition_of_none(environment), argv).err().filter(is_display).map(Err)
        } else {
            let definition = Self::definition_of_one(argv, environment);
            definition.and_then(|definition| Self::parse_with(definition, argv).ok()).map(Ok)
        };
        parsed.unwrap_or_else(|| Self::parse_with(Self::definition(environment), argv))
    }

    /// Returns the definition of the whole command line.
    fn definition(environment: &Environment) -> clap::Command {
        Command::augment_subcommands(Self::root(environment)).about(ABOUT)
    }

    /// Returns the definition with all commands, but without their arguments.
    fn definition_of_none(environment: &Environment) -> clap::Command {
        let commands = COMMANDS.map(|(name, about)| {
            let command = clap::Command::new(name).about(about);
            if name == "ls" { command.visible_alias("list") } else { command }
        });
        // A global option is copied into each command, which takes a third of the time of `--help`.
        Self::root(environment).mut_args(|arg| arg.global(false)).subcommands(commands)
    }

    fn root(environment: &Environment) -> clap::Command {
        let root = clap::Command::new("maqet")
            .version(env!("CARGO_PKG_VERSION"))
            .after_help(EXAMPLES)
            .after_long_help(format!("{EXAMPLES}\n\n{}", exit_code::TABLE))
            .max_term_width(100)
            .arg_required_else_help(true)
            .subcommand_required(true);
        // The options bring the about of their own.
        GlobalArgs::augment(root, environment).about(ABOUT)
    }

    /// Returns the definition with the one command that the arguments seem to name.
    fn definition_of_one(argv: &[OsString], environment: &Environment) -> Option<clap::Command> {
        let at = 1 + argv.iter().skip(1).position(|arg| !is_option(arg))?;
        let command = match argv.get(at + 1) {
            // It has nearly as many commands again.
            Some(next) if argv[at] == "qmp" && !is_option(next) => QmpArgs::definition_of_one(next),
            _ => definition(&argv[at], &DEFINITIONS)?,
        };
        Some(
            GlobalArgs::augment(clap::Command::new("maqet"), environment).subcommand_required(true).subcommand(command),
        )
    }

    fn parse_with(mut definition: clap::Command, argv: &[OsString]) -> Result<Self, clap::Error> {
        let mut matches = definition.try_get_matches_from_mut(argv)?;
        let global = GlobalArgs::take(&matches, argv);
        let command = Command::from_arg_matches_mut(&mut matches);
        let parsed = global.and_then(|global| Ok(Self { global, command: command? }));
        parsed.map_err(|error| error.format(&mut definition))
    }
}

/// Returns whether `error` is the help or the version.
fn is_display(error: &clap::Error) -> bool {
    use clap::error::ErrorKind as Kind;

    matches!(error.kind(), Kind::DisplayHelp | Kind::DisplayVersion | Kind::DisplayHelpOnMissingArgumentOrSubcommand)
}

fn is_option(arg: impl AsRef<OsStr>) -> bool {
    arg.as_ref().as_encoded_bytes().starts_with(b"-")
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Add(AddArgs),
    Apply(ApplyArgs),
    Start(StartArgs),
    Stop(StopArgs),
    Restart(RestartArgs),
    Upgrade(Upgrade),
    Wait(WaitArgs),
    /// Pause running VMs
    Pause(VmsArgs),
    /// Resume paused VMs
    Resume(VmsArgs),
    /// Reset running VMs, like the reset button of a PC
    ///
    /// The guest is not notified: data that it has not written to its disks is lost. A paused VM stays paused, and boots
    /// once it is resumed.
    Reset(VmsArgs),
    Rm(RmArgs),
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show the state of VMs
    Status(VmsArgs),
    Events(EventsArgs),
    Info(Info),
    Inspect(InspectArgs),
    Logs(LogsArgs),
    Exec(ExecArgs),
    Shell(ShellArgs),
    Cp(CpArgs),
    Run(RunArgs),
    SshConfig(SshConfig),
    Console(ConsoleArgs),
    Keys(KeysArgs),
    Type(TypeArgs),
    Screenshot(ScreenshotArgs),
    Qmp(QmpArgs),
    #[command(subcommand)]
    Snapshot(SnapshotSubcommand),
    #[command(subcommand)]
    Backup(BackupSubcommand),
    #[command(subcommand)]
    Checkpoint(CheckpointSubcommand),
    Fork(Fork),
    #[command(subcommand)]
    Template(TemplateSubcommand),
    #[command(subcommand)]
    Storage(StorageSubcommand),
    Metrics(MetricsArgs),
    #[command(subcommand)]
    Database(DatabaseSubcommand),
    #[command(subcommand)]
    Host(HostSubcommand),
    #[command(after_help = "\
Examples:
  maqet history --vm web
  maqet undo --dry-run
  maqet undo 3")]
    History(HistoryLs),
    Undo(Undo),
    Redo(Redo),
    Doctor(Doctor),
    Cleanup(Cleanup),
    #[command(subcommand)]
    Config(ConfigSubcommand),
}

/// Adds arguments to the definition of a command.
type Augment = fn(clap::Command) -> clap::Command;

/// How the definition of each command is built; a test compares this with [`Command`].
const DEFINITIONS: [(&str, Augment); 42] = [
    ("add", AddArgs::augment_args),
    ("apply", ApplyArgs::augment_args),
    ("start", StartArgs::augment_args),
    ("stop", StopArgs::augment_args),
    ("restart", RestartArgs::augment_args),
    ("upgrade", Upgrade::augment_args),
    ("wait", WaitArgs::augment_args),
    ("pause", VmsArgs::augment_args),
    ("resume", VmsArgs::augment_args),
    ("reset", VmsArgs::augment_args),
    ("rm", RmArgs::augment_args),
    ("ls", Ls::augment_args),
    ("status", VmsArgs::augment_args),
    ("events", EventsArgs::augment_args),
    ("info", Info::augment_args),
    ("inspect", InspectArgs::augment_args),
    ("logs", LogsArgs::augment_args),
    ("exec", ExecArgs::augment_args),
    ("shell", ShellArgs::augment_args),
    ("cp", CpArgs::augment_args),
    ("run", RunArgs::augment_args),
    ("ssh-config", SshConfig::augment_args),
    ("console", ConsoleArgs::augment_args),
    ("keys", KeysArgs::augment_args),
    ("type", TypeArgs::augment_args),
    ("screenshot", ScreenshotArgs::augment_args),
    ("qmp", QmpArgs::augment_args),
    ("snapshot", SnapshotSubcommand::augment_subcommands),
    ("backup", BackupSubcommand::augment_subcommands),
    ("checkpoint", CheckpointSubcommand::augment_subcommands),
    ("fork", Fork::augment_args),
    ("template", TemplateSubcommand::augment_subcommands),
    ("storage", StorageSubcommand::augment_subcommands),
    ("metrics", MetricsArgs::augment_args),
    ("database", DatabaseSubcommand::augment_subcommands),
    ("host", HostSubcommand::augment_subcommands),
    ("history", HistoryLs::augment_args),
    ("undo", Undo::augment_args),
    ("redo", Redo::augment_args),
    ("doctor", Doctor::augment_args),
    ("cleanup", Cleanup::augment_args),
    ("config", ConfigSubcommand::augment_subcommands),
];

/// The list of commands in the help; a test compares this with the help of each.
const COMMANDS: [(&str, &str); DEFINITIONS.len()] = [
    ("add", "Define a VM from YAML files and options"),
    ("apply", "Change a VM's definition"),
    ("start", "Start VMs and wait until QMP answers"),
    ("stop", "Stop VMs: power-down, then quit, then signals"),
    ("restart", "Restart VMs, or start those that are not running"),
    ("upgrade", "Put the running guest of a VM into another QEMU, without a boot"),
    ("wait", "Wait until conditions on VMs are met"),
    ("pause", "Pause running VMs"),
    ("resume", "Resume paused VMs"),
    ("reset", "Reset running VMs, like the reset button of a PC"),
    ("rm", "Remove VMs; their disks are kept, or moved to the trash"),
    ("ls", "List VMs and their states"),
    ("status", "Show the state of VMs"),
    ("events", "Show the events of a VM, or of all VMs"),
    ("info", "Show a VM's definition and its QEMU command line"),
    ("inspect", "Show runtime details: process, memory, disks, sockets"),
    ("logs", "Show the logs of a VM: serial console, output of QEMU, operations of maqet"),
    ("exec", "Run a command in a running VM"),
    ("shell", "Open a login shell in a running VM"),
    ("cp", "Copy files between the host and a running VM"),
    ("run", "Run a command in a VM that is made for it, and thrown away"),
    ("ssh-config", "Show the configuration of ssh for a running VM"),
    ("console", "Attach to the serial console of a running VM"),
    ("keys", "Send key presses to a running VM"),
    ("type", "Type text into a running VM"),
    ("screenshot", "Take a screenshot of a running VM"),
    ("qmp", "Run QMP commands on a running VM, and change its devices"),
    ("snapshot", "Create, list, load and remove snapshots of a VM's drives, and of its memory"),
    ("backup", "Create, list, verify, restore and remove backups of VMs' disks"),
    ("checkpoint", "Take checkpoints of running VMs, go back to them, list, show and remove them"),
    ("fork", "Start new VMs from a checkpoint: each goes on where the guest was, with disks of its own"),
    ("template", "Make, list and remove templates: VMs that have booted, kept for forks"),
    ("storage", "List, check, resize and convert the disk images of VMs"),
    ("metrics", "Show how often operations ran, failed, and how long they took"),
    ("database", "Check, back up and move the database"),
    ("host", "List the hosts that share the database, and move the VMs of one that is gone here"),
    ("history", "Show changes of VMs, their snapshots and storage: who made them, when, and on which host"),
    ("undo", "Undo the last changes of VMs, snapshots and storage"),
    ("redo", "Take back the last undos"),
    ("doctor", "Check the host, the database and the VMs for problems"),
    ("cleanup", "Remove stale files"),
    ("config", "Check configurations, and show keys, defaults and settings"),
];

/// Returns the definition of the command `name` alone.
/// Parses a number of at least `MIN`.
pub(crate) fn number<N: FromStr + PartialOrd + From<u8>, const MIN: u8>(text: &str) -> Result<N, String> {
    match text.parse() {
        Ok(number) if number >= N::from(MIN) => Ok(number),
        Ok(_) | Err(_) => Err(format!("expected a whole number of {MIN} or more")),
    }
}

fn definition(name: &OsStr, table: &[(&'static str, Augment)]) -> Option<clap::Command> {
    let (name, augment) = table.iter().find(|(known, _)| name == *known)?;
    Some(augment(clap::Command::new(*name)))
}

#[cfg(test)]
mod tests;
