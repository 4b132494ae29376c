//! Options of every command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};
use maqet::{InsecureFiles, Overrides};

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

/// Whether somebody said what an option is, be it the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Choice {
    #[default]
    Default,
    Asked,
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
    /// Read configurations that others can write
    #[arg(long, global = true, value_parser = BoolishValueParser::new(), env = "MAQET_ALLOW_INSECURE_CONFIG", hide_env_values = true, hide_short_help = true)]
    allow_insecure_config: bool,
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
    #[arg(skip)]
    pub(crate) format_choice: Choice,
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
    /// The options that the settings find in their variables by themselves.
    pub(super) const SETTINGS: [&str; 5] = ["data_dir", "config_dir", "runtime_dir", "config", "database"];

    /// Takes out what came from variables, so that it is not told as a flag's.
    pub(super) fn unset_if_default(&mut self, by_variable: &[&str]) {
        for id in by_variable {
            match *id {
                "data_dir" => self.data_dir = None,
                "config_dir" => self.config_dir = None,
                "runtime_dir" => self.runtime_dir = None,
                "config" => self.config = None,
                "database" => self.database = None,
                _ => {}
            }
        }
    }

    /// Decides between `--verbose` and `--quiet` where both were asked for.
    pub(super) fn settle(&mut self, winner: Verbosity) {
        match winner {
            Verbosity::Verbose => self.quiet = false,
            Verbosity::Quiet if self.quiet => self.verbose = 0,
            Verbosity::Quiet => {}
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
            insecure_files: if self.allow_insecure_config { InsecureFiles::Allow } else { InsecureFiles::Refuse },
        }
    }
}

/// What `--verbose` and `--quiet` ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verbosity {
    Verbose,
    Quiet,
}

/// Returns which of `-v` and `-q` stands last, before or after the command.
///
/// Clap counts the places of a command's options anew, so they cannot be compared there.
pub(super) fn last_verbosity(words: &[OsString]) -> Verbosity {
    let options = words.iter().take_while(|word| *word != "--").filter_map(|word| word.to_str());
    let asked = options.filter_map(|word| match word {
        "--verbose" => Some(Verbosity::Verbose),
        "--quiet" => Some(Verbosity::Quiet),
        _ if word.starts_with("--") => None,
        _ => word.strip_prefix('-')?.chars().rev().find_map(|letter| match letter {
            'v' => Some(Verbosity::Verbose),
            'q' => Some(Verbosity::Quiet),
            _ => None,
        }),
    });
    asked.last().unwrap_or(Verbosity::Quiet)
}
