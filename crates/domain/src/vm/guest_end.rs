//! How a guest ended its QEMU before a monitor responded.

use super::ending::{ExitEvidence, ExitReport};
use super::reason::{StateDetails, StopReason};

impl ExitEvidence {
    /// Returns how the guest ended a QEMU with this exit code; `None` if QEMU exited for another reason.
    ///
    /// As at a start: a guest can be faster than QEMU's monitors, of which the one for events is the first. QEMU exits
    /// with 0 only once its guest ran (7.2, 10.0).
    pub fn guest_end(&self, exit_code: i32) -> Option<ExitReport> {
        let reported = self.shutdown_report();
        if let Some(end) = reported.as_ref().and_then(|report| report.end) {
            return reported.filter(|_| end.reason.is_of_guest());
        }
        let without_event = |reason| Some(ExitReport::new(reason, None, StateDetails::default()));
        let is_silent = self.last_message().message.is_none();
        match exit_code {
            _ if !is_silent => None,
            0 if self.had_triple_fault => without_event(StopReason::TripleFault),
            0 => without_event(StopReason::Unknown),
            // The device makes each value odd.
            odd if odd % 2 == 1 && self.has_debug_exit => without_event(StopReason::DebugExit),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::qmp::QmpEvent;

    fn after(events: Vec<QmpEvent>) -> ExitEvidence {
        ExitEvidence { events, ..ExitEvidence::default() }
    }

    fn shutdown(reason: &str) -> QmpEvent {
        QmpEvent { name: "SHUTDOWN".to_owned(), at: Timestamp::UNIX_EPOCH, data: json!({ "reason": reason }) }
    }

    #[test]
    fn test_guest_end_is_what_the_guest_did_and_nothing_else() {
        let silent = || after(vec![]);
        let debug = || ExitEvidence { has_debug_exit: true, ..silent() };
        let triple = || ExitEvidence { had_triple_fault: true, ..silent() };
        let says = |traces: ExitEvidence, stderr: &str| ExitEvidence { stderr: stderr.to_owned(), ..traces };
        let warns = "qemu: warning: netdev n has no peer";
        let fails = "qemu: Bus 'x' not found";
        for (traces, exit_code, expected) in [
            (after(vec![shutdown("guest-shutdown")]), 0, Some(StopReason::GuestShutdown)),
            (says(after(vec![shutdown("guest-reset")]), fails), 0, Some(StopReason::GuestReset)),
            (after(vec![shutdown("guest-panic")]), 0, Some(StopReason::GuestPanic)),
            (after(vec![shutdown("host-qmp-quit")]), 0, None),
            (after(vec![shutdown("host-signal")]), 0, None),
            (silent(), 0, Some(StopReason::Unknown)),
            (says(silent(), warns), 0, Some(StopReason::Unknown)),
            (says(silent(), fails), 0, None),
            (silent(), 1, None),
            (triple(), 0, Some(StopReason::TripleFault)),
            (triple(), 1, None),
            (debug(), 1, Some(StopReason::DebugExit)),
            (debug(), 33, Some(StopReason::DebugExit)),
            (debug(), 2, None),
            (says(debug(), fails), 1, None),
        ] {
            let found = traces.guest_end(exit_code).and_then(|report| report.end);

            assert_eq!(found.map(|end| end.reason), expected, "{exit_code} {traces:?}");
        }
    }
}
