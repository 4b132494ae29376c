//! `wait`.

use clap::Args;
use maqet::operation::Since;
use maqet::{Condition, Explain, HumanDuration};

/// What can be waited for, for the help of `wait` and `start`.
pub(super) const CONDITIONS: &str = "\
Conditions:
  qmp                     its command monitor answers
  serial:REGEX            what the guest wrote to its serial port since it was started matches
  port:N                  a server in the guest takes connections at its TCP port N, which must be forwarded
  event:NAME              an event of QEMU or of ours happens, such as event:RESET or event:vm.paused
  file:PATH               there is something at a path of the host
  status=WORD             it is in this state, such as status=paused
  stopped                 nothing of it runs
  screen-stable=DURATION  its screen did not change for that long, but for a cursor that blinks";

const EXAMPLES: &str = "\
Examples:
  maqet wait web --for 'serial:login: $' --timeout 2m
  maqet wait web --for port:22 --for file:/srv/share/done
  maqet wait web --any --for stopped --for event:GUEST_PANICKED";

/// Reads a condition; one that is none is told with what would be one, as clap shows no hints.
pub(super) fn condition(text: &str) -> Result<Condition, String> {
    text.parse::<Condition>().map_err(|invalid| format!("{invalid}; {}", invalid.hints().join("; ")))
}

/// Wait until conditions about VMs come true
///
/// All of them, unless --any is given; each counts once it was true. When waiting was in vain, the last lines of the
/// guest's serial console are shown.
#[derive(Debug, Args)]
#[command(after_help = format!("{CONDITIONS}\n\n{EXAMPLES}"))]
pub(crate) struct WaitArgs {
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "VM", required = true)]
    pub(crate) vms: Vec<String>,
    /// What to wait for; may be given several times
    #[arg(long = "for", value_name = "CONDITION", required = true, value_parser = condition)]
    pub(crate) conditions: Vec<Condition>,
    /// One of the conditions is enough
    #[arg(long, conflicts_with = "all")]
    pub(crate) any: bool,
    /// All of the conditions have to come true, which is the default
    #[arg(long)]
    pub(crate) all: bool,
    /// How long to wait [default: `timeouts.wait`, else 60s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// From when on events count: a time, or how long ago, such as 10s
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<Since>,
}
