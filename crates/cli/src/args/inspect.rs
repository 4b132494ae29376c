//! `maqet inspect`.

use clap::Args;

use super::VmsArgs;

/// Show runtime details: process, memory, disks, sockets
///
/// Reads the current values from the kernel, QEMU and the disks: CPU and memory of the process, accelerator and machine
/// type in use, size of each disk in the guest and on the host, sockets and whether a client is connected. For a stopped
/// VM: its disks and its last run.
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
