//! `maqet template`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use maqet::operation::{TemplateLs, TemplateRm};
use maqet::{Condition, HumanDuration};

use super::define::DefinitionOverrides;

/// Make, list and remove templates: VMs that have booted, kept for forks
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  maqet template create debian debian.yaml
  maqet template create web --vm web --wait agent --wait port:80
  maqet run --template debian -- make test
  maqet template ls
  maqet template rm debian")]
pub(crate) enum TemplateSubcommand {
    Create(TemplateCreateArgs),
    #[command(visible_alias = "list")]
    Ls(TemplateLs),
    Rm(TemplateRm),
}

/// Make a template: boot a VM, and keep it as it is then
///
/// The VM is that of the files, or has the definition and the disks of another one, which must not run. Nothing of the disks
/// is written: each is an overlay. Once the conditions are met, a checkpoint is taken, and the VM is stopped. `run` of the same
/// definition goes on from it instead of booting. It is rebuilt before its next use if its definition, an image or QEMU has
/// changed.
#[derive(Debug, Args)]
pub(crate) struct TemplateCreateArgs {
    /// The name of the template
    pub(crate) name: String,
    /// YAML files, merged left to right; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present = "vm")]
    pub(crate) files: Vec<PathBuf>,
    /// Use the definition and the disks of this VM
    #[arg(long, value_name = "VM", conflicts_with_all = ["files", "memory", "cpu", "set"])]
    pub(crate) vm: Option<String>,
    #[command(flatten)]
    pub(crate) overrides: DefinitionOverrides,
    /// Wait for this before, as in `maqet wait --for` [default: agent]; can be given several times
    #[arg(long, value_name = "CONDITION")]
    pub(crate) wait: Vec<Condition>,
    /// Timeout of that wait [default: 5m]
    #[arg(long, value_name = "DURATION")]
    pub(crate) boot_timeout: Option<HumanDuration>,
}
