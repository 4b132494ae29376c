//! `maqet events` and `maqet qmp events`.

use clap::Args;
use maqet::HumanDuration;
use maqet::operation::Since;

use super::number;

/// Show the events of a VM, or of all VMs
///
/// Includes the events of maqet, such as `vm.started`, and those of QEMU, such as `qemu.SHUTDOWN`, which QEMU records even
/// while no client is connected.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet events web --since 1h
  maqet events --follow
  maqet events web --follow --type vm.stopped --count 1 --timeout 2m
  maqet events --follow --type 'vm.*' --format json | jq -r .type
  maqet events web --type 'qemu.*' --since 2026-11-25T08:00:00Z")]
pub(crate) struct EventsArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID [default: all VMs]
    pub(crate) vm: Option<String>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
    /// Show only types that match; `*` stands for any text and `?` for one character
    #[arg(long = "type", value_name = "GLOB")]
    pub(crate) kind: Option<String>,
}

/// Show the QMP events of a VM
///
/// Includes earlier boots, and events that occurred while no client was connected: QEMU logs its events itself, so no
/// monitor is occupied. `maqet events` shows them together with the events of maqet.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet qmp events web
  maqet qmp events web --follow
  maqet qmp events web --follow --type 'BLOCK_JOB_*' --count 1 --timeout 10m --format json")]
pub(crate) struct QmpEventsArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub(crate) vm: String,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
    /// Show only events that match, such as SHUTDOWN; `*` stands for any text and `?` for one character
    #[arg(long = "type", value_name = "GLOB")]
    pub(crate) kind: Option<String>,
}

/// The range of events to show.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Show new events as they occur; with --since, past events first
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Show only events since this time, or since this long ago, such as 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// With --follow: exit after this many events
    #[arg(long, value_name = "N", requires = "follow", value_parser = number::<u64, 1>)]
    pub(crate) count: Option<u64>,
    /// Timeout, after which the exit code is 124
    #[arg(long, value_name = "DURATION", requires = "follow")]
    pub(crate) timeout: Option<HumanDuration>,
}
