//! `config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use maqet::operation::{ConfigDefaults, ConfigKeys, ConfigSchema, ConfigShow};

/// Check configurations, and show keys, defaults and settings
#[derive(Debug, Subcommand)]
#[command(defer = true)]
#[command(after_help = "\
Examples:
  maqet config check web.yaml
  maqet config schema >maqet.schema.json
  maqet config show --origin")]
pub(crate) enum ConfigSubcommand {
    /// Check files as `add` would, and define nothing
    Check(ConfigCheckArgs),
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
pub(crate) struct ConfigCheckArgs {
    /// YAML files, merged left to right; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Leave out keys that nobody knows, with a warning
    #[arg(long)]
    pub(crate) lenient: bool,
}
