//! `maqet config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use maqet::operation::{ConfigDefaults, ConfigKeys, ConfigSchema, ConfigShow};

/// Check configurations, and show keys, defaults and settings
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet config check web.yaml
  maqet config schema > maqet.schema.json
  maqet config show --origin")]
pub(crate) enum ConfigSubcommand {
    Check(ConfigCheckArgs),
    Show(ConfigShow),
    Keys(ConfigKeys),
    Schema(ConfigSchema),
    Defaults(ConfigDefaults),
}

/// Check files without defining a VM
#[derive(Debug, Args)]
pub(crate) struct ConfigCheckArgs {
    /// YAML files, merged left to right; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Ignore unknown keys with a warning
    #[arg(long)]
    pub(crate) lenient: bool,
}
