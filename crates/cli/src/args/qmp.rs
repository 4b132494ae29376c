//! `maqet qmp`.

use std::ffi::OsStr;

use clap::{Args, Subcommand};
use maqet::HumanDuration;
use maqet::operation::{QmpBalloon, QmpDeviceAdd, QmpDeviceDel, QmpEject, QmpInsert, QmpNmi, QmpSetLink};

use super::events::QmpEventsArgs;
use super::hardware::HardwareSubcommand;
use super::keyboard::{KeysArgs, TypeArgs};
use super::lifecycle::VmsArgs;
use super::screen::ScreenshotArgs;
use super::shell::QmpShellArgs;
use super::{Augment, definition};

/// Run QMP commands on a running VM, and change its devices
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

/// How the definition of each command of `qmp` is built; a test compares this with [`QmpSubcommand`].
pub(super) const DEFINITIONS: [(&str, Augment); 15] = [
    ("run", QmpRunArgs::augment_args),
    ("shell", QmpShellArgs::augment_args),
    ("events", QmpEventsArgs::augment_args),
    ("keys", KeysArgs::augment_args),
    ("type", TypeArgs::augment_args),
    ("screendump", ScreenshotArgs::augment_args),
    ("device-add", QmpDeviceAdd::augment_args),
    ("device-del", QmpDeviceDel::augment_args),
    ("eject", QmpEject::augment_args),
    ("insert", QmpInsert::augment_args),
    ("set-link", QmpSetLink::augment_args),
    ("balloon", QmpBalloon::augment_args),
    ("nmi", QmpNmi::augment_args),
    ("pause", VmsArgs::augment_args),
    ("resume", VmsArgs::augment_args),
];

impl QmpArgs {
    /// Returns `qmp` with the command that the next argument names, or without commands if it is a VM.
    pub(super) fn definition_of_one(next: &OsStr) -> clap::Command {
        if next == "help" {
            // A command that clap adds to the others.
            return Self::augment_args(clap::Command::new("qmp"));
        }
        let qmp = QmpRunArgs::augment_args(clap::Command::new("qmp"))
            .args_conflicts_with_subcommands(true)
            .subcommand_negates_reqs(true);
        definition(next, &DEFINITIONS).into_iter().fold(qmp, clap::Command::subcommand)
    }
}

/// The commands of `qmp`.
#[derive(Debug, Subcommand)]
pub(crate) enum QmpSubcommand {
    Run(QmpRunArgs),
    Shell(QmpShellArgs),
    Events(QmpEventsArgs),
    Keys(KeysArgs),
    Type(TypeArgs),
    Screendump(ScreenshotArgs),
    #[command(flatten)]
    Hardware(HardwareSubcommand),
}

/// Run a QMP command and print its result
#[derive(Debug, Args)]
pub(crate) struct QmpRunArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub(crate) vm: String,
    /// QMP command, such as query-status
    pub(crate) command: String,
    /// Arguments, typed by the schema of the VM's QEMU
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) arguments: Vec<String>,
    /// Arguments as a JSON object, as `@FILE`, or as `-` for standard input
    #[arg(long, value_name = "OBJECT", conflicts_with = "arguments", allow_hyphen_values = true)]
    pub(crate) json: Option<String>,
    /// Timeout [default: `timeouts.qmp`, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Allow commands that reach the host: its files, programs, network and devices
    #[arg(long)]
    pub(crate) allow_dangerous: bool,
}
