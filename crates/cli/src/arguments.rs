//! The command line: global options and commands.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, Resettable};
use clap::parser::ValueSource;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use maqet::operation::{
    ConfigDefaults, ConfigKeys, ConfigSchema, ConfigShow, Info, Ls, SnapshotCreate, SnapshotLoad, SnapshotLs,
    SnapshotRm,
};
use maqet::{Environment, Overrides, Patience};

use crate::exit;

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
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    /// Reads the words of a command line, and the variables that stand in for options.
    ///
    /// A variable that is empty counts as unset, and any flag beats any variable.
    pub(crate) fn read(words: &[OsString]) -> Result<Self, clap::Error> {
        let environment = Environment::of_this_process();
        let is_empty = |name: &OsStr| environment.variables().get(name).is_some_and(|value| value.is_empty());
        let mut command = Self::command().mut_args(|arg| match arg.get_env() {
            Some(name) if is_empty(name) => arg.env(Resettable::Reset),
            Some(_) | None => arg,
        });
        let mut matches = command.try_get_matches_from_mut(words)?;
        let by_flag = ["verbose", "quiet"].map(|name| matches.value_source(name) == Some(ValueSource::CommandLine));
        let mut arguments = Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
        arguments.global.settle(match by_flag {
            [true, false] => Loudness::Verbose,
            [true, true] => last_loudness(words),
            [false, _] => Loudness::Quiet,
        });
        Ok(arguments)
    }
}

/// What `--verbose` and `--quiet` ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loudness {
    Verbose,
    Quiet,
}

/// Returns which of `-v` and `-q` stands last, before or after the command.
///
/// Clap counts the places of a command's options anew, so they cannot be compared there.
fn last_loudness(words: &[OsString]) -> Loudness {
    let options = words.iter().take_while(|word| *word != "--").filter_map(|word| word.to_str());
    let asked = options.filter_map(|word| match word {
        "--verbose" => Some(Loudness::Verbose),
        "--quiet" => Some(Loudness::Quiet),
        _ if word.starts_with("--") => None,
        _ => word.strip_prefix('-')?.chars().rev().find_map(|letter| match letter {
            'v' => Some(Loudness::Verbose),
            'q' => Some(Loudness::Quiet),
            _ => None,
        }),
    });
    asked.last().unwrap_or(Loudness::Quiet)
}

fn long_help() -> String {
    format!("{EXAMPLES}\n\n{}", exit::TABLE)
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For scripts; stable
    Json,
    /// For scripts and people
    Yaml,
}

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal
    Auto,
    /// Even in a pipe
    Always,
    /// Not at all
    Never,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Folder of the database, of disks and of locks
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MAQET_DATA_DIR",
        hide_env_values = true,
        hide_short_help = true
    )]
    data_dir: Option<PathBuf>,
    /// Folder of maqet.conf
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MAQET_CONFIG_DIR",
        hide_env_values = true,
        hide_short_help = true
    )]
    config_dir: Option<PathBuf>,
    /// Folder of the sockets of running machines; its path must be short
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MAQET_RUNTIME_DIR",
        hide_env_values = true,
        hide_short_help = true
    )]
    runtime_dir: Option<PathBuf>,
    /// Settings file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MAQET_CONFIG",
        hide_env_values = true,
        hide_short_help = true
    )]
    config: Option<PathBuf>,
    /// Database, as a path or `sqlite:PATH`
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MAQET_DATABASE",
        hide_env_values = true,
        hide_short_help = true
    )]
    database: Option<String>,
    /// Write the log to a file instead of standard error
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MAQET_LOG_FILE",
        hide_env_values = true,
        hide_short_help = true
    )]
    pub(crate) log_file: Option<PathBuf>,
    /// Log more: -v what is done, -vv how, -vvv everything
    #[arg(short, long, global = true, action = ArgAction::Count, env = "MAQET_VERBOSE", hide_env_values = true)]
    pub(crate) verbose: u8,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, value_parser = BoolishValueParser::new(), env = "MAQET_QUIET", hide_env_values = true)]
    pub(crate) quiet: bool,
    /// How results are written
    #[arg(long, global = true, value_enum, default_value = "table", env = "MAQET_FORMAT", hide_env_values = true)]
    pub(crate) format: Format,
    /// Show no sign of life while waiting
    #[arg(long, global = true, value_parser = BoolishValueParser::new(), env = "MAQET_NO_PROGRESS", hide_env_values = true, hide_short_help = true)]
    pub(crate) no_progress: bool,
    /// When to use colours
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        env = "MAQET_COLOR",
        hide_env_values = true,
        hide_short_help = true
    )]
    pub(crate) color: Color,
}

impl Global {
    /// Decides between `--verbose` and `--quiet` where both were asked for.
    fn settle(&mut self, winner: Loudness) {
        match winner {
            Loudness::Verbose => self.quiet = false,
            Loudness::Quiet if self.quiet => self.verbose = 0,
            Loudness::Quiet => {}
        }
    }

    /// Returns what these decide about where things live.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            data_dir: self.data_dir.clone(),
            config_dir: self.config_dir.clone(),
            runtime_dir: self.runtime_dir.clone(),
            config: self.config.clone(),
            database: self.database.clone(),
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Define a VM from YAML files and flags
    Add(Add),
    /// Change a VM's definition
    Apply(Apply),
    /// Start VMs; returns when QMP answers
    Start(Start),
    /// Stop VMs: power button, then quit, then signals
    Stop(Stop),
    /// Remove VMs; their disks stay
    Rm(Rm),
    /// List VMs and their states
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Tell the state of VMs
    Status(Status),
    /// Show a VM's definition and its QEMU command line
    Info(Info),
    /// Talk to the QEMU of a running VM
    Qmp(Qmp),
    /// Make, list, load and remove snapshots of a stopped VM's drives
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Check configurations, and show keys, defaults and settings
    #[command(subcommand)]
    Config(Config),
}

/// Define a VM from YAML files and flags
///
/// Several files are merged left to right: maps merge, `storage` merges by name, other lists
/// append, of anything else the last one wins, and `null` deletes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet add web.yaml
  maqet add base.yaml web.yaml --name web-2 --memory 4G
  maqet add --empty --name scratch --start
  generate-config | maqet add -")]
pub(crate) struct Add {
    /// YAML files, merged left to right; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present = "empty")]
    pub(crate) files: Vec<PathBuf>,
    /// Name of the VM; wins over the files
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// RAM, such as 4G; wins over the files
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Number of CPUs; wins over the files
    #[arg(long, value_name = "N")]
    pub(crate) cpu: Option<String>,
    /// One value, such as storage.hdd.size=20G; wins over the files
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Leave out keys that nobody knows, with a warning
    #[arg(long)]
    pub(crate) lenient: bool,
    /// Define a VM of defaults alone
    #[arg(long)]
    pub(crate) empty: bool,
    /// Start it at once
    #[arg(long)]
    pub(crate) start: bool,
}

/// Change a VM's definition
///
/// With files, the definition becomes what they and the flags say; without, the flags change single
/// values. Shows what is different, and what waits for the next start.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet apply web web.yaml --dry-run
  maqet apply web --memory 4G --set storage.hdd.cache=none")]
pub(crate) struct Apply {
    /// Name, id, or unique beginning of an id
    pub(crate) vm: String,
    /// YAML files, merged left to right; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present_any = ["memory", "cpu", "set"])]
    pub(crate) files: Vec<PathBuf>,
    /// RAM, such as 4G; wins over the files
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Number of CPUs; wins over the files
    #[arg(long, value_name = "N")]
    pub(crate) cpu: Option<String>,
    /// One value, such as storage.hdd.size=20G; wins over the files
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Leave out keys that nobody knows, with a warning
    #[arg(long)]
    pub(crate) lenient: bool,
    /// Show the difference and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Check configurations, and show keys, defaults and settings
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet config check web.yaml
  maqet config schema >maqet.schema.json
  maqet config show --origin")]
pub(crate) enum Config {
    /// Check files as `add` would, and define nothing
    Check(ConfigCheck),
    /// Show the settings that hold
    Show(ConfigShow),
    /// List the keys of a configuration
    Keys(ConfigKeys),
    /// Print the JSON Schema of a configuration, for editors
    Schema(ConfigSchema),
    /// Show what holds where a definition says nothing
    Defaults(ConfigDefaults),
}

/// Check files as `add` would, and define nothing
#[derive(Debug, Args)]
pub(crate) struct ConfigCheck {
    /// YAML files, merged left to right; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Leave out keys that nobody knows, with a warning
    #[arg(long)]
    pub(crate) lenient: bool,
}

/// The VMs a command is about.
#[derive(Debug, Args)]
pub(crate) struct Vms {
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "VM", required_unless_present = "all")]
    pub(crate) vms: Vec<String>,
    /// All VMs
    #[arg(long, conflicts_with = "vms")]
    pub(crate) all: bool,
}

/// Start VMs; returns when QMP answers
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet start web
  maqet start web db --timeout 2m
  maqet start web --dry-run")]
pub(crate) struct Start {
    #[command(flatten)]
    pub(crate) vms: Vms,
    /// How long QEMU may take to answer [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<Patience>,
    /// Print the QEMU command line and start nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Stop VMs: power button, then quit, then signals
///
/// Presses the power button, waits for the guest, then tells QEMU to quit, then sends SIGTERM, then
/// SIGKILL, each only after the one before did not do. Says which it took.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet stop web
  maqet stop web --timeout 2m     a slow guest
  maqet stop --all --force        kill them all, now")]
pub(crate) struct Stop {
    #[command(flatten)]
    pub(crate) vms: Vms,
    /// How long the guest may take to power off [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<Patience>,
    /// Kill QEMU at once; what the guest has not written is lost
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Remove VMs; their disks stay
#[derive(Debug, Args)]
pub(crate) struct Rm {
    #[command(flatten)]
    pub(crate) vms: Vms,
    /// Kill their QEMU first if they run
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Tell the state of VMs
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) vms: Vms,
}

/// Talk to the QEMU of a running VM
///
/// `maqet qmp VM COMMAND` is short for `maqet qmp run VM COMMAND`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  maqet qmp web query-status
  maqet qmp web query-block --format json | jq '.[].device'
  maqet qmp web human-monitor-command command-line='info pci'
  maqet qmp web block_resize --json '{\"node-name\": \"hdd\", \"size\": 1073741824}'")]
pub(crate) struct Qmp {
    #[command(subcommand)]
    pub(crate) command: Option<QmpCommand>,
    #[command(flatten)]
    pub(crate) run: Option<QmpRun>,
}

/// What can be done with a monitor.
#[derive(Debug, Subcommand)]
pub(crate) enum QmpCommand {
    /// Run a QMP command and print what QEMU returns
    Run(QmpRun),
}

/// Run a QMP command and print what QEMU returns
#[derive(Debug, Args)]
pub(crate) struct QmpRun {
    /// Name, id, or unique beginning of an id
    pub(crate) vm: String,
    /// QMP command, such as query-status
    pub(crate) command: String,
    /// Its arguments; a value that is JSON is taken as such, anything else as text
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) arguments: Vec<String>,
    /// Its arguments as one JSON object
    #[arg(long, value_name = "OBJECT", conflicts_with = "arguments")]
    pub(crate) json: Option<String>,
    /// How long it may take [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<Patience>,
}

/// Make, list, load and remove snapshots of a stopped VM's drives
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet snapshot create web hdd clean
  maqet snapshot ls web
  maqet snapshot load web hdd clean")]
pub(crate) enum Snapshot {
    /// Make a snapshot of a drive
    Create(SnapshotCreate),
    /// List snapshots
    #[command(visible_alias = "list")]
    Ls(SnapshotLs),
    /// Put a drive back to a snapshot
    Load(SnapshotLoad),
    /// Remove a snapshot
    Rm(SnapshotRm),
}

#[cfg(test)]
mod tests;
