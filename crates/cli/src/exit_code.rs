//! Exit codes: one table, in the help, in docs/reference/exit-codes.md and here.

use maqet::Fault;

/// Done.
pub(crate) const DONE: u8 = 0;

/// Interrupted by SIGINT or SIGTERM, as shells have it (128 + 2).
pub(crate) const INTERRUPTED: u8 = 130;

/// Returns the exit code for a fault.
pub(crate) const fn code(fault: Fault) -> u8 {
    match fault {
        Fault::Failed => 1,
        Fault::Usage => 2,
        Fault::NotFound => 3,
        Fault::State => 4,
        Fault::Host => 69,
        Fault::Busy => 75,
        Fault::TimedOut => 124,
    }
}

/// The table as the help shows it.
pub(crate) const TABLE: &str = "\
Exit codes:
  0    done
  1    failed
  2    wrong usage or configuration
  3    no such VM, drive or snapshot
  4    wrong state, or name taken
  69   the host cannot: tool, permission or ability missing
  75   locked or busy: try again
  124  timed out; it may still complete
  130  interrupted";
