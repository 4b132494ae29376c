//! `maqet inspect`.

use clap::Args;

use super::VmsArgs;

/// Show what VMs really are and cost: process, memory, disks, sockets
///
/// Asked of the kernel, of QEMU and of the disks, now: what the process takes of CPUs and memory, which accelerator and
/// machine QEMU really runs, how large each disk is for the guest and on the host, and which sockets there are and
/// whether somebody is connected. Of a VM that is stopped: its disks and its last run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet inspect web
  maqet inspect web --format json | jq .process.rss_bytes
  maqet inspect --all")]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) vms: VmsArgs,
}
