//! `qmp shell`.

use clap::Args;
use maqet::HumanDuration;

/// Talk to the QEMU of a running VM, one command after the other
///
/// A line is a command with `key=value` as in `maqet qmp run`, or a message of QMP as JSON. On a terminal there are a
/// history (not of lines that begin with a space or tell of passwords), completion with Tab, and QEMU's events as they
/// come; Ctrl-C clears the line or gives up waiting for an answer, Ctrl-D leaves.
///
/// Without a terminal, each command on standard input is answered by a line of JSON on standard output: `{"return": …}`
/// or `{"error": …}`. The exit code is that of the first command that failed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet qmp shell web
  printf 'stop\\nquery-status\\ncont\\n' | maqet qmp shell web | jq -c .return")]
pub(crate) struct QmpShellArgs {
    /// Name, id, or unique beginning of an id
    pub(crate) vm: String,
    /// How long each command may take [default: `timeouts.qmp`, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Let commands reach the host: its files, programs, network and hardware
    #[arg(long)]
    pub(crate) allow_dangerous: bool,
}
