//! `add` and `apply`.

use std::path::PathBuf;

use clap::Args;

/// Define a VM from YAML files and flags
///
/// Several files are merged left to right: maps merge, `storage` and `network` merge by name,
/// `arguments` by switch and id, other lists append, of anything else the last one wins, and `null`
/// deletes.
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
    /// Name of the VM; wins over the files
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) over: Over,
    /// Define a VM of defaults alone
    #[arg(long)]
    pub(crate) empty: bool,
    /// Start it at once
    #[arg(long)]
    pub(crate) start: bool,
}

/// What is laid over the files.
#[derive(Debug, Args)]
pub(crate) struct Over {
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
pub(crate) struct ApplyArgs {
    /// Name, id, or unique beginning of an id
    pub(crate) vm: String,
    /// YAML files, merged left to right; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present_any = ["memory", "cpu", "set"])]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) over: Over,
    /// Show the difference and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
