//! Options of every command.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{BoolishValueParser, Resettable};
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, ValueEnum};
use maqet::{Environment, InsecureFiles, Overrides};

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Text and tables
    Table,
    /// JSON, stable for scripts
    Json,
    /// YAML
    Yaml,
    /// Text for Prometheus, of `metrics` only
    #[value(skip)]
    Prometheus,
}

/// When colors are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal
    Auto,
    /// Even in a pipe
    Always,
    /// Never
    Never,
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines of text
    Text,
    /// A JSON object on each line
    Json,
}

/// Options of every command; [`GlobalArgs::augment`] adds what they have in common.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// Directory of the database, disks and locks
    #[arg(long, value_name = "DIR", env = "MAQET_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Directory of maqet.conf
    #[arg(long, value_name = "DIR", env = "MAQET_CONFIG_DIR")]
    config_dir: Option<PathBuf>,
    /// Directory of the sockets of running VMs; its path must be short
    #[arg(long, value_name = "DIR", env = "MAQET_RUNTIME_DIR")]
    runtime_dir: Option<PathBuf>,
    /// Settings file
    #[arg(long, value_name = "FILE", env = "MAQET_CONFIG")]
    config: Option<PathBuf>,
    /// Database: a path, `sqlite:PATH` or `postgres://…`
    #[arg(long, value_name = "URL", env = "MAQET_DATABASE")]
    database: Option<String>,
    /// Accept configuration files that other users can write
    #[arg(long, value_parser = BoolishValueParser::new(), env = "MAQET_ALLOW_INSECURE_CONFIG")]
    allow_insecure_config: bool,
    /// Write the log to a file instead of standard error; from 16 MiB on, FILE is renamed to FILE.1
    #[arg(long, value_name = "FILE", env = "MAQET_LOG_FILE")]
    pub(crate) log_file: Option<PathBuf>,
    /// Format of the log
    #[arg(long, value_enum, default_value = "text", env = "MAQET_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Log more: -v for operations, -vv for their steps, -vvv for everything
    #[arg(short, long, action = ArgAction::Count, env = "MAQET_VERBOSE")]
    pub(crate) verbose: u8,
    /// Print results and errors only
    #[arg(short, long, value_parser = BoolishValueParser::new(), env = "MAQET_QUIET")]
    pub(crate) quiet: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "table", env = "MAQET_FORMAT")]
    pub(crate) format: Format,
    /// Whether `format` was given by an option or a variable.
    #[arg(skip)]
    pub(crate) is_format_given: bool,
    /// Hide progress
    #[arg(long, value_parser = BoolishValueParser::new(), env = "MAQET_NO_PROGRESS")]
    pub(crate) no_progress: bool,
    /// When to use colors
    #[arg(long, value_enum, default_value = "auto", env = "MAQET_COLOR")]
    pub(crate) color: Color,
}

/// The options in the short help, by their ids.
const IN_SHORT_HELP: [&str; 3] = ["verbose", "quiet", "format"];

impl GlobalArgs {
    /// Adds the options to a command and all of its sub-commands. A variable that is empty counts as unset.
    pub(super) fn augment(command: clap::Command, environment: &Environment) -> clap::Command {
        Self::augment_args(command).mut_args(|arg| {
            let is_hidden = !IN_SHORT_HELP.contains(&arg.get_id().as_str());
            let arg = arg.global(true).hide_env_values(true).hide_short_help(is_hidden);
            let value = arg.get_env().and_then(|name| environment.get_raw(name));
            if value.is_some_and(OsStr::is_empty) { arg.env(Resettable::Reset) } else { arg }
        })
    }

    /// Takes the options out of `matches`; any option overrides any variable.
    ///
    /// Those that [`maqet::Settings`] reads from their variables itself are unset then, so that they are not reported as
    /// options.
    pub(super) fn take(matches: &ArgMatches, command_line: &[OsString]) -> Result<Self, clap::Error> {
        let has = |id: &str, source| matches.value_source(id) == Some(source);
        let is_from_variable = |id: &str| has(id, ValueSource::EnvVariable);
        let mut args = Self {
            is_format_given: !has("format", ValueSource::DefaultValue),
            ..clap::FromArgMatches::from_arg_matches(matches)?
        };
        args.data_dir.take_if(|_| is_from_variable("data_dir"));
        args.config_dir.take_if(|_| is_from_variable("config_dir"));
        args.runtime_dir.take_if(|_| is_from_variable("runtime_dir"));
        args.config.take_if(|_| is_from_variable("config"));
        args.database.take_if(|_| is_from_variable("database"));
        let is_verbose = match ["verbose", "quiet"].map(|id| has(id, ValueSource::CommandLine)) {
            [true, true] => ends_verbose(command_line),
            [is_verbose, _] => is_verbose,
        };
        if is_verbose {
            args.quiet = false;
        } else if args.quiet {
            args.verbose = 0;
        }
        Ok(args)
    }

    /// Returns what these options override in the settings.
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            data_dir: self.data_dir.clone(),
            config_dir: self.config_dir.clone(),
            runtime_dir: self.runtime_dir.clone(),
            config: self.config.clone(),
            database: self.database.clone(),
            insecure_files: if self.allow_insecure_config { InsecureFiles::Allow } else { InsecureFiles::Refuse },
        }
    }
}

/// Returns whether `-v` comes after `-q`, before or after the command.
///
/// clap restarts the positions of options within a sub-command, so its indices cannot be compared.
fn ends_verbose(command_line: &[OsString]) -> bool {
    let args = command_line.iter().take_while(|arg| *arg != "--").filter_map(|arg| arg.to_str());
    let last = args.filter_map(|arg| match arg {
        "--verbose" => Some('v'),
        "--quiet" => Some('q'),
        _ if arg.starts_with("--") => None,
        _ => arg.strip_prefix('-')?.chars().rfind(|letter| matches!(letter, 'v' | 'q')),
    });
    last.last() == Some('v')
}
