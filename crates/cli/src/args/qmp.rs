//! `qmp`.

use std::ffi::OsStr;

use clap::{Args, Subcommand};
use maqet::HumanDuration;

use super::events::QmpEventsArgs;
use super::hardware::HardwareSubcommand;
use super::keyboard::{KeysArgs, TypeArgs};
use super::screen::ScreenshotArgs;
use super::shell::QmpShellArgs;

/// Talk to the QEMU of a running VM
///
/// `maqet qmp VM COMMAND` is short for `maqet qmp run VM COMMAND`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  maqet qmp web query-status
  maqet qmp web query-block --format json | jq '.[].device'
  maqet qmp web block_resize node-name=hdd size=20G
  maqet qmp web migrate-set-capabilities capabilities.0.capability=events capabilities.0.state=on
  maqet qmp web human-monitor-command command-line='info pci'
  maqet qmp web block_resize --json '{\"node-name\": \"hdd\", \"size\": 1073741824}'")]
pub(crate) struct QmpArgs {
    #[command(subcommand)]
    pub(crate) command: Option<QmpSubcommand>,
    #[command(flatten)]
    pub(crate) run: Option<QmpRunArgs>,
}

impl QmpArgs {
    /// Returns `qmp` with the command that the word after it names, or with none if that is a VM.
    pub(super) fn about_one(next: &OsStr) -> clap::Command {
        let all = Self::augment_args(clap::Command::new("qmp"));
        if next == "help" {
            // A command too, which clap adds where there are others.
            return all;
        }
        let this = clap::Command::new("qmp")
            .args(all.get_arguments().cloned())
            .groups(all.get_groups().cloned())
            .args_conflicts_with_subcommands(true)
            .subcommand_negates_reqs(true);
        all.find_subcommand(next).cloned().into_iter().fold(this, clap::Command::subcommand)
    }
}

/// What can be done with a monitor.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum QmpSubcommand {
    /// Run a QMP command and print what QEMU returns
    Run(QmpRunArgs),
    /// Talk to the QEMU of a running VM, one command after the other
    Shell(QmpShellArgs),
    /// Show the QMP events of a VM's QEMU
    Events(QmpEventsArgs),
    /// Press keys of a running VM
    Keys(KeysArgs),
    /// Type a text at a running VM
    Type(TypeArgs),
    /// Take a picture of a running VM's screen
    Screendump(ScreenshotArgs),
    #[command(flatten)]
    Hardware(HardwareSubcommand),
}

/// Run a QMP command and print what QEMU returns
#[derive(Debug, Args)]
pub(crate) struct QmpRunArgs {
    /// Name, id, or unique beginning of an id
    pub(crate) vm: String,
    /// QMP command, such as query-status
    pub(crate) command: String,
    /// Its arguments, typed by QEMU's own schema
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) arguments: Vec<String>,
    /// Its arguments as one JSON object, as `@FILE` that holds it, or as `-` for standard input
    #[arg(long, value_name = "OBJECT", conflicts_with = "arguments", allow_hyphen_values = true)]
    pub(crate) json: Option<String>,
    /// How long it may take [default: `timeouts.qmp`, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Let it reach the host: its files, programs, network and hardware
    #[arg(long)]
    pub(crate) allow_dangerous: bool,
}
