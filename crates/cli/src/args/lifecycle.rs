//! The commands that take one VM or several.

use clap::Args;
use maqet::{Condition, HumanDuration};

use super::wait::{CONDITIONS, condition};

// No words for the help, as with `Press`. The VMs a command is about.
#[derive(Debug, Args)]
pub(crate) struct VmsArgs {
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "VM", required_unless_present = "all")]
    pub(crate) vms: Vec<String>,
    /// All VMs
    #[arg(long, conflicts_with = "vms")]
    pub(crate) all: bool,
}

/// Start VMs; returns when QMP answers
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  maqet start web
  maqet start web db --timeout 2m
  maqet start web --wait 'serial:login: $' --wait port:22
  maqet start web --dry-run

{CONDITIONS}"))]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) vms: VmsArgs,
    /// Wait until this comes true as well; may be given several times
    #[arg(long, value_name = "CONDITION", conflicts_with = "dry_run", value_parser = condition)]
    pub(crate) wait: Vec<Condition>,
    /// How long all of it may take [default: `timeouts.start` to answer, `timeouts.wait` to come true, else 60s each]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Print what would be made and run, as one line for a shell, and start nothing
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
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) vms: VmsArgs,
    #[command(flatten)]
    pub(crate) how: PowerOffArgs,
}

/// How VMs are stopped.
#[derive(Debug, Args)]
pub(crate) struct PowerOffArgs {
    /// How long the guest may take to power off [default: `timeouts.power_down`, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Kill QEMU at once; what the guest has not written is lost
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Remove VMs; their disks stay
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    pub(crate) vms: VmsArgs,
    /// Kill their QEMU first if they run
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Tell the state of VMs
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) vms: VmsArgs,
}

/// Stop VMs, if they run, and start them again
///
/// As `stop` and `start` in one go: each VM is started with its definition as it is now.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet restart web
  maqet restart web --force       pull the plug first")]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    pub(crate) vms: VmsArgs,
    #[command(flatten)]
    pub(crate) how: PowerOffArgs,
}

// The buttons of running VMs. No words for the help: each command that takes these says its own.
#[derive(Debug, Args)]
pub(crate) struct Press {
    #[command(flatten)]
    pub(crate) vms: VmsArgs,
}
