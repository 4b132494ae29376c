//! `maqet qmp shell`.

use clap::Args;
use maqet::HumanDuration;

/// Run QMP commands in an interactive session or from a script
///
/// Each line is a command with `key=value` arguments as in `maqet qmp run`, or a QMP message in JSON. On a terminal, Tab
/// completes, QEMU's events are shown as they occur, and there is a history, which omits lines that start with a space or
/// may contain a password. Ctrl-C clears the line or stops waiting for a response; Ctrl-D exits.
///
/// Without a terminal, commands are read from standard input, and the response to each is a line of JSON on standard
/// output: `{"return": …}` or `{"error": …}`. The exit code is that of the first command that failed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet qmp shell web
  printf 'stop\\nquery-status\\ncont\\n' | maqet qmp shell web | jq -c .return")]
pub(crate) struct QmpShellArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub(crate) vm: String,
    /// Timeout for each command [default: `timeouts.qmp`, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Allow commands that reach the host: its files, programs, network and devices
    #[arg(long)]
    pub(crate) allow_dangerous: bool,
}
