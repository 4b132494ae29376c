//! `maqet wait`.

use clap::Args;
use maqet::{Condition, Explain, HumanDuration, WaitSince};

/// The conditions, for the help of `wait` and `start`.
pub(super) const CONDITIONS: &str = "\
Conditions:
  qmp                     the command monitor answers
  agent                   the guest agent answers, so that commands can be run in the guest
  boot                    systemd has started the guest; also if units failed, which are shown
  cloud-init              cloud-init has set up the guest; fails if it failed
  address                 the guest has an address at which others reach it, as its agent says
  ssh                     an SSH server answers on the forwarded port 22 of the guest
  serial:REGEX            the output on the serial port since the VM was started matches
  port:N                  a server in the guest accepts connections on its forwarded TCP port N
  event:NAME              an event of QEMU or maqet occurs, such as event:RESET or event:vm.paused
  file:PATH               the path exists on the host
  status=STATUS           the VM has this status, such as status=paused; does not fail if the VM is stopped
  stopped                 the VM does not run; fails after a panic, a crash or another failure
  stopped=REASON          the VM does not run, and its last run ended for this reason, such as stopped=guest-panic;
                          stopped=any for every reason
  screen-stable=DURATION  the screen has not changed for this long, except for a blinking cursor";

const EXAMPLES: &str = "\
Examples:
  maqet wait web --for 'serial:login: $' --timeout 2m
  maqet wait web --for port:22 --for file:/srv/share/done
  maqet wait web --any --for stopped --for event:qemu.RESET";

/// Parses a condition; the error includes its hints, as clap shows none.
pub(super) fn condition(text: &str) -> Result<Condition, String> {
    text.parse::<Condition>().map_err(|invalid| format!("{invalid}; {}", invalid.hints().join("; ")))
}

/// Wait until conditions on VMs are met
///
/// Waits for all conditions, or for any of them with --any. A condition that was met once stays met. On timeout, the last
/// lines of the serial console are shown.
#[derive(Debug, Args)]
#[command(after_help = format!("{CONDITIONS}\n\n{EXAMPLES}"))]
pub(crate) struct WaitArgs {
    /// The VMs: names, IDs, or unique prefixes of IDs
    #[arg(value_name = "VM", required = true)]
    pub(crate) vms: Vec<String>,
    /// Condition to wait for; can be given several times
    #[arg(long = "for", value_name = "CONDITION", required = true, value_parser = condition)]
    pub(crate) conditions: Vec<Condition>,
    /// Wait until any of the conditions is met
    #[arg(long, conflicts_with = "all")]
    pub(crate) any: bool,
    /// Wait until all of the conditions are met, which is the default; it does not mean all VMs
    #[arg(long)]
    pub(crate) all: bool,
    /// Timeout [default: `timeouts.wait`, else 60s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
    /// Count events and serial output from this moment on: `now`, `boot`, a time, or a duration before now, such as 10s;
    /// serial output has no times, so that a moment counts for it only if the VM was started later [default: `now` for
    /// events, `boot` for serial output]
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<WaitSince>,
}
