//! `maqet add` and `maqet apply`.

use std::path::PathBuf;

use clap::Args;

/// Define a VM from YAML files and options
///
/// Several files are merged left to right: maps merge, `storage` and `network` merge by name, `arguments` by option and
/// id, other lists append, `null` deletes, and otherwise the last value wins.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet add web.yaml
  maqet add base.yaml web.yaml --name web-2 --memory 4G
  maqet add --empty --name scratch --start
  generate-config | maqet add -")]
pub(crate) struct AddArgs {
    /// YAML files, merged left to right; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present = "empty")]
    pub(crate) files: Vec<PathBuf>,
    /// Name of the VM; overrides the files
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) overrides: DefinitionOverrides,
    /// Define a VM with default values only, without a file
    #[arg(long)]
    pub(crate) empty: bool,
    /// Start the VM, too
    #[arg(long)]
    pub(crate) start: bool,
}

/// Values that override those of the files.
#[derive(Debug, Args)]
pub(crate) struct DefinitionOverrides {
    /// RAM, such as 4G; overrides the files
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<String>,
    /// Number of CPUs; overrides the files
    #[arg(long, value_name = "N")]
    pub(crate) cpu: Option<String>,
    /// Value of a key, such as storage.hdd.size=20G; overrides the files
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    pub(crate) set: Vec<String>,
    /// Ignore unknown keys with a warning
    #[arg(long)]
    pub(crate) lenient: bool,
}

/// Change a VM's definition
///
/// With files, the files and options replace the definition. Without files, the options change single values. Shows the
/// differences, and which of them take effect at the next start.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet apply web web.yaml --dry-run
  maqet apply web --memory 4G --set storage.hdd.cache=none")]
pub(crate) struct ApplyArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub(crate) vm: String,
    /// YAML files, merged left to right; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present_any = ["memory", "cpu", "set"])]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: DefinitionOverrides,
    /// Show the differences without changing anything
    #[arg(long)]
    pub(crate) dry_run: bool,
}
