//! `events`.

use clap::Args;
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
  maqet events --follow --type 'vm.*' --format json | jq -r .type
  maqet events web --type 'qemu.*' --since 2026-11-25T08:00:00Z")]
pub(crate) struct Events {
    /// Name, id, or unique beginning of an id; all VMs if left out
    pub(crate) vm: Option<String>,
    /// Go on with what happens from now on; with --since also with what happened since then
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only what happened since then: a time, or how long ago, such as 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
    /// Only types that match; `*` stands for any text and `?` for one character
    #[arg(long = "type", value_name = "GLOB")]
    pub(crate) kind: Option<String>,
}
