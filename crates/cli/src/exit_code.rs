//! Exit codes: the one table, shown by `maqet --help` and repeated in docs/reference/exit-codes.md.

use maqet::{ErrorReport, Fault};

/// Done.
pub(crate) const DONE: u8 = 0;

/// Interrupted by SIGINT or SIGTERM, as shells report SIGINT (128 + 2).
pub(crate) const INTERRUPTED: u8 = 130;

/// `exec` or `run` failed before the command ran, or `cp` before anything was copied.
pub(crate) const NOT_STARTED: u8 = 125;

/// The VM ended under `exec`, `run`, `cp` or `start --foreground`.
pub(crate) const VM_ENDED: u8 = 255;

/// Returns the exit code of `exec` for an error: the codes of a shell for a program that cannot be run.
pub(crate) fn of_exec(report: &ErrorReport) -> u8 {
    match report.code {
        "guest.program-not-found" => 127,
        "guest.program-invalid" => 126,
        _ => NOT_STARTED,
    }
}

/// Returns the exit code of `cp` for an error: those of `exec`, where a copy that failed is a command that did.
pub(crate) fn of_cp(report: &ErrorReport) -> u8 {
    match (report.code, report.fault) {
        ("copy.vm-unavailable", _) => VM_ENDED,
        (_, Fault::TimedOut) if report.code.starts_with("copy.") => from_fault(Fault::TimedOut),
        (
            "copy.path-invalid"
            | "copy.vm-required"
            | "copy.vm-unsupported"
            | "copy.stream-unsupported"
            | "copy.stream-required",
            _,
        ) => NOT_STARTED,
        (code, _) if code.starts_with("copy.") => from_fault(Fault::Failed),
        _ => NOT_STARTED,
    }
}

/// Returns the exit code for a fault.
pub(crate) const fn from_fault(fault: Fault) -> u8 {
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
  2    invalid usage or configuration
  3    no such VM, drive or snapshot
  4    wrong state, or name in use
  69   not possible on this host: a tool, permission or capability is missing
  75   locked or busy: try again
  124  timed out; it may still complete
  125  `exec`, `run` or `cp` failed before anything was done
  130  interrupted
  255  the VM ended under `exec`, `run`, `cp` or `start --foreground`, as by a panic of its guest";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_table_has_every_exit_code() {
        use Fault::{Busy, Failed, Host, NotFound, State, TimedOut, Usage};
        let faults = [Failed, Usage, NotFound, State, Host, Busy, TimedOut].map(from_fault);
        let expected: Vec<u8> = [DONE].into_iter().chain(faults).chain([NOT_STARTED, INTERRUPTED, VM_ENDED]).collect();

        let first_words = TABLE.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        let codes: Vec<u8> = first_words.map(|code| code.parse().unwrap()).collect();

        assert_eq!(codes, expected);
    }
}
