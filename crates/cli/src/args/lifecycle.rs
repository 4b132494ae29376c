//! The commands that start, stop and remove VMs.

use clap::Args;
use maqet::{Condition, HumanDuration};

use super::wait::{CONDITIONS, condition};

// Without a doc comment, which would replace those of the commands that take nothing else.
#[derive(Debug, Args)]
pub(crate) struct VmsArgs {
    /// The VMs: names, IDs, or unique prefixes of IDs
    #[arg(value_name = "VM", required_unless_present = "all")]
    pub(crate) vms: Vec<String>,
    /// All VMs
    #[arg(long, conflicts_with = "vms")]
    pub(crate) all: bool,
}

/// Start VMs and wait until QMP answers
#[derive(Debug, Args)]
#[command(after_help = format!("\
Examples:
  maqet start web
  maqet start web db --timeout 2m
  maqet start web --wait 'serial:login: $' --wait port:22
  maqet start web --dry-run
  maqet start web --foreground --grace 20s     for a job or a service: the VM ends with it

With --foreground, the exit code is 0 if the guest powered off or the VM was stopped by a command, 128 and the number of
the signal that ended it (130 for Ctrl-C, 143 for SIGTERM), and 255 if the guest panicked or QEMU was killed or crashed.

{CONDITIONS}"))]
pub(crate) struct StartArgs {
    #[command(flatten)]
    pub(crate) vms: VmsArgs,
    /// Wait until this condition is met, too; can be given several times
    #[arg(long, value_name = "CONDITION", conflicts_with = "dry_run", value_parser = condition)]
    pub(crate) wait: Vec<Condition>,
    /// Timeout [default: `timeouts.start` for QMP, `timeouts.wait` for conditions, else 60s each]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Create the image of this drive again, empty, although it was created once and is gone; can be given several times
    #[arg(long, value_name = "DRIVE", conflicts_with = "dry_run")]
    pub(crate) recreate: Vec<String>,
    /// Start QEMU, but not the guest, until `maqet resume`
    #[arg(long, conflicts_with_all = ["wait", "dry_run"])]
    pub(crate) paused: bool,
    /// Stay until the VM stops, and show its serial output; SIGINT, SIGTERM or SIGHUP stops the VM, a second one kills it
    ///
    /// QEMU is killed when this process ends, even by SIGKILL. Tells a service manager when the VM is ready
    /// (`sd_notify(3)`). With --quiet or --format json, the serial output is not shown.
    #[arg(long, conflicts_with_all = ["all", "dry_run"])]
    pub(crate) foreground: bool,
    /// With --foreground: time for the guest to power off after a signal [default: `timeouts.power_down`, else 30s]
    #[arg(long, value_name = "DURATION", requires = "foreground")]
    pub(crate) grace: Option<HumanDuration>,
    /// Print the shell commands that would be run, without starting anything
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Stop VMs: power-down, then quit, then signals
///
/// Presses the power button every few seconds until the guest powers off; a guest that boots ignores it. After the
/// timeout, sends `quit` to QEMU, then SIGTERM, then SIGKILL: a power cut for the guest. The output names the method that
/// stopped the VM. After Ctrl-C the guest may still power off.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet stop web
  maqet stop web --timeout 2m     give a slow guest more time
  maqet stop --all --force        kill all VMs immediately")]
pub(crate) struct StopArgs {
    #[command(flatten)]
    pub(crate) vms: VmsArgs,
    #[command(flatten)]
    pub(crate) options: StopOptions,
}

/// How VMs are stopped.
#[derive(Debug, Args)]
pub(crate) struct StopOptions {
    /// Timeout for the guest to power off [default: `timeouts.power_down`, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Kill QEMU immediately; data that the guest has not written to its disks is lost
    #[arg(short, long)]
    pub(crate) force: bool,
}

/// Remove VMs; their disks are kept, or moved to the trash
///
/// With --delete-storage, the disks and UEFI variables that maqet created for the VM are moved to the trash, from which
/// `storage trash restore` brings the VM and its disks back. Other disks stay where they are.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet rm web
  maqet rm web --force --delete-storage
  maqet storage trash restore web")]
pub(crate) struct RmArgs {
    #[command(flatten)]
    pub(crate) vms: VmsArgs,
    /// Kill a running VM first
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Move the disks that maqet created to the trash
    #[arg(long)]
    pub(crate) delete_storage: bool,
}

/// Restart VMs, or start those that are not running
///
/// Stops each VM like `stop`, and starts it with its current definition.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet restart web
  maqet restart web --force       kill QEMU instead of waiting for the guest")]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    pub(crate) vms: VmsArgs,
    #[command(flatten)]
    pub(crate) options: StopOptions,
    /// Create the image of this drive again, empty, although it was created once and is gone; can be given several times
    #[arg(long, value_name = "DRIVE")]
    pub(crate) recreate: Vec<String>,
}
