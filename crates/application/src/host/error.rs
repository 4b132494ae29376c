//! VMs of other hosts: refused commands.

use jiff::Timestamp;
use maqet_domain::error::{Explanation, Fault};

/// Returns what follows the name of a host in a message: since when it is away, if it is.
pub(crate) fn away_note(since: Option<Timestamp>) -> String {
    since.map(|since| format!(", which is away since {since:.0}")).unwrap_or_default()
}

/// Explains that a command is refused for the VM of another host.
pub(crate) fn foreign_vm(host: &str) -> Explanation {
    Explanation::new("vm.host-refused", Fault::State)
        .hint(format!("run the command on host `{host}`, as that user"))
        .hint("list the VMs of all hosts with `maqet ls --host '*'`")
}
