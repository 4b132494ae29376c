//! `events`, `qmp events`.

use clap::Args;
use maqet::HumanDuration;
use maqet::operation::Since;

/// Show what happened: to all VMs or to one
///
/// Merges what maqet did with the events of QEMU itself (`qemu.SHUTDOWN` and the like), which QEMU records also while
/// nobody watches.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet events web --since 1h
  maqet events --follow
  maqet events web --follow --type vm.stopped --count 1 --timeout 2m
  maqet events --follow --type 'vm.*' --format json | jq -r .type
  maqet events web --type 'qemu.*' --since 2026-11-25T08:00:00Z")]
pub(crate) struct EventsArgs {
    /// Name, id, or unique beginning of an id; all VMs if left out
    pub(crate) vm: Option<String>,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
    /// Only types that match; `*` stands for any text and `?` for one character
    #[arg(long = "type", value_name = "GLOB")]
    pub(crate) kind: Option<String>,
}

/// Show the QMP events of a VM's QEMU
///
/// Also those of earlier boots, and those that came while nobody listened, as QEMU itself writes them down; no monitor is
/// taken. `maqet events` shows them together with what maqet did.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet qmp events web
  maqet qmp events web --follow
  maqet qmp events web --follow --type 'BLOCK_JOB_*' --count 1 --timeout 10m --format json")]
pub(crate) struct QmpEventsArgs {
    /// Name, id, or unique beginning of an id
    pub(crate) vm: String,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
    /// Only events whose names match, such as SHUTDOWN; `*` stands for any text and `?` for one character
    #[arg(long = "type", value_name = "GLOB")]
    pub(crate) kind: Option<String>,
}

/// From when on, and until when.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Go on with what happens from now on; with --since also with what happened since then
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only what happened since then: a time, or how long ago, such as 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// Leave after so many events
    #[arg(long, value_name = "N", requires = "follow", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Leave after that time, with exit code 124
    #[arg(long, value_name = "DURATION", requires = "follow")]
    pub(crate) timeout: Option<HumanDuration>,
}
