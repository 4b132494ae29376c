//! What the evidence about a QEMU says: why it ended, and why its guest does not run.
//!
//! No process of maqet runs beside a VM, so nothing is there to collect QEMU's exit code. The reason is concluded from
//! what QEMU, the kernel and the start of the run wrote; each rule says in which QEMU its fact was seen.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reason::{HaltReason, StateDetails, StopReason};
use super::run::RunEnd;
use crate::qemu::{LIMITS_PREFIX, NodeName};
use crate::qmp::QmpEvent;
use crate::qmp::wording::{aborted, is_warning, terminated_by_signal};

/// What is left of a QEMU process that has ended.
#[derive(Debug, Clone, Default)]
pub struct ExitEvidence {
    /// The last events of the QMP log, oldest first.
    pub events: Vec<QmpEvent>,
    /// The end of what QEMU wrote to its standard error.
    pub stderr: String,
    /// Whether QEMU removed its pid file, which it does in `exit` and not when a signal kills it; `None` if that cannot
    /// be known.
    pub removed_pid_file: Option<bool>,
    /// Whether it was started with the device `isa-debug-exit`.
    pub has_debug_exit: bool,
    /// Whether it logged a triple fault of the guest's processor.
    pub had_triple_fault: bool,
    /// What the kernel did to its process.
    pub kernel: KernelReport,
}

/// What the kernel did to a process, as far as that can be found out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelReport {
    /// Nothing is known.
    #[default]
    Unknown,
    /// It was killed because memory ran out; as the kernel says.
    OutOfMemory(String),
    /// A process was killed because memory ran out, which may have been another one.
    MemoryKillNearby(String),
    /// It crashed in a way that the kernel logs, such as a segmentation fault; as the kernel says.
    Fault(String),
}

/// Why a QEMU ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExitReport {
    /// The reason, and the time of QEMU's last event about it; `None` if nothing says more than that it is gone.
    pub end: Option<RunEnd>,
    /// What is known beyond that.
    pub details: StateDetails,
}

impl ExitReport {
    pub(super) fn new(reason: StopReason, at: Option<Timestamp>, details: StateDetails) -> Self {
        Self { end: Some(RunEnd { reason, at }), details }
    }
}

impl ExitEvidence {
    /// Concludes why QEMU ended.
    pub fn conclude(&self) -> ExitReport {
        self.shutdown_report().unwrap_or_else(|| self.conclude_without_shutdown())
    }

    /// Returns what the `SHUTDOWN` since the guest was last resumed or reset says, if there is one.
    pub fn shutdown_report(&self) -> Option<ExitReport> {
        self.shutdown().map(|(event, before)| self.conclude_from(event, before))
    }

    /// Returns the first `SHUTDOWN` since the guest was last resumed or reset, and the events between.
    ///
    /// One that the guest was resumed from (`-no-shutdown`) is not the end of QEMU. Of several, as where QEMU was asked
    /// to quit after the guest was off, the first ended the guest.
    fn shutdown(&self) -> Option<(&QmpEvent, &[QmpEvent])> {
        let events = self.since_last_start();
        let at = events.iter().position(|event| event.name == "SHUTDOWN")?;
        Some((&events[at], &events[..at]))
    }

    fn since_last_start(&self) -> &[QmpEvent] {
        let is_start = |event: &QmpEvent| matches!(event.name.as_str(), "RESUME" | "RESET");
        &self.events[self.events.iter().rposition(is_start).map_or(0, |at| at + 1)..]
    }

    fn conclude_from(&self, shutdown: &QmpEvent, before: &[QmpEvent]) -> ExitReport {
        let report = |reason, details| ExitReport::new(reason, Some(shutdown.at), details);
        let plain = |reason| report(reason, StateDetails::default());
        // `ShutdownCause` of QAPI (7.2, 10.0).
        match text(shutdown, "reason") {
            "guest-shutdown" => match watchdog(before).filter(|action| *action == "shutdown") {
                Some(action) => report(StopReason::Watchdog, StateDetails::watchdog(action)),
                // 10.0 reports a power-off here, 7.2 nothing at all.
                None if self.has_debug_exit => plain(StopReason::DebugExit),
                None => plain(StopReason::GuestShutdown),
            },
            "guest-reset" => match watchdog(before).filter(|action| *action == "reset") {
                Some(action) => report(StopReason::Watchdog, StateDetails::watchdog(action)),
                None if self.had_triple_fault => plain(StopReason::TripleFault),
                None => plain(StopReason::GuestReset),
            },
            "guest-panic" => report(StopReason::GuestPanic, panic_details(before)),
            "host-qmp-system-reset" => plain(StopReason::HostReset),
            // The user closed the window.
            "host-qmp-quit" | "host-ui" => plain(StopReason::HostQuit),
            "host-signal" => report(StopReason::HostSignal, self.signal_details()),
            "host-error" => report(StopReason::QemuError, self.last_message()),
            _ => plain(StopReason::Unknown),
        }
    }

    fn conclude_without_shutdown(&self) -> ExitReport {
        // The action `poweroff` of a watchdog is an `exit` right after its event (7.2, 10.0).
        let last = self.since_last_start().last();
        let poweroff = last.filter(|event| event.name == "WATCHDOG" && text(event, "action") == "poweroff");
        let aborted = aborted(&self.stderr);
        match (self.removed_pid_file, &self.kernel, poweroff) {
            (Some(true) | None, KernelReport::Unknown | KernelReport::MemoryKillNearby(_), Some(event)) => {
                ExitReport::new(StopReason::Watchdog, Some(event.at), StateDetails::watchdog("poweroff"))
            }
            (Some(true), _, _) if self.has_debug_exit => {
                ExitReport::new(StopReason::DebugExit, None, StateDetails::default())
            }
            (Some(true), _, _) => {
                let details = self.last_message();
                // Its log may have been on a full disk.
                let is_silent = details.message.is_none();
                let reason = if is_silent { StopReason::Unknown } else { StopReason::QemuError };
                ExitReport::new(reason, None, details)
            }
            // Another process may have been killed in the same cgroup.
            (_, KernelReport::OutOfMemory(message), _) if aborted.is_none() => {
                ExitReport::new(StopReason::OutOfMemory, None, StateDetails::message(message.clone()))
            }
            (_, KernelReport::Fault(message), _) => {
                ExitReport::new(StopReason::Crashed, None, StateDetails::message(message.clone()))
            }
            (_, KernelReport::Unknown | KernelReport::OutOfMemory(_) | KernelReport::MemoryKillNearby(_), _) => {
                self.conclude_killed(aborted)
            }
        }
    }

    /// Concludes how a process ended that a signal killed, and of which the kernel says nothing certain.
    fn conclude_killed(&self, aborted: Option<String>) -> ExitReport {
        match (aborted, &self.kernel) {
            (Some(message), _) => {
                let details = StateDetails { message: Some(message), ..StateDetails::signal("SIGABRT") };
                ExitReport::new(StopReason::Crashed, None, details)
            }
            (None, KernelReport::MemoryKillNearby(message)) => {
                ExitReport { end: None, details: StateDetails::message(message.clone()) }
            }
            (None, _) => ExitReport::default(),
        }
    }

    fn signal_details(&self) -> StateDetails {
        let Some(terminated) = terminated_by_signal(&self.stderr) else { return StateDetails::default() };
        let program = terminated.program.and_then(|path| path.rsplit('/').next().map(str::to_owned));
        StateDetails {
            signal: Some(signal_name(terminated.signal)),
            sender_pid: terminated.pid,
            sender: program.filter(|name| !name.is_empty()),
            ..StateDetails::default()
        }
    }

    /// Returns the last line of standard error that is not a warning.
    pub(super) fn last_message(&self) -> StateDetails {
        let last = self.stderr.lines().rev().find(|line| !line.trim().is_empty() && !is_warning(line));
        StateDetails { message: last.map(str::to_owned), ..StateDetails::default() }
    }
}

impl StateDetails {
    fn watchdog(action: &str) -> Self {
        Self { action: Some(action.to_owned()), ..Self::default() }
    }

    fn message(message: String) -> Self {
        Self { message: Some(message), ..Self::default() }
    }
}

/// Returns more about why a guest does not run, from the last events and the end of the standard error of its QEMU.
pub fn explain_halt(halted: HaltReason, events: &[QmpEvent], stderr: &str) -> (HaltReason, StateDetails) {
    match halted {
        HaltReason::DiskError | HaltReason::NoSpace => {
            let is_cause = |event: &&QmpEvent| event.name == "BLOCK_IO_ERROR" && text(event, "action") == "stop";
            events.iter().rev().find(is_cause).map_or((halted, StateDetails::default()), disk_error)
        }
        HaltReason::Watchdog => {
            let action = watchdog(events);
            (halted, action.map_or_else(StateDetails::default, StateDetails::watchdog))
        }
        HaltReason::GuestPanic => (halted, panic_details(events)),
        HaltReason::InternalError => {
            let evidence = ExitEvidence { stderr: stderr.to_owned(), ..ExitEvidence::default() };
            (halted, evidence.last_message())
        }
        HaltReason::Request
        | HaltReason::StartedPaused
        | HaltReason::Migrated
        | HaltReason::GuestSuspend
        | HaltReason::GuestShutdown
        | HaltReason::PartialLoad => (halted, StateDetails::default()),
    }
}

/// `BLOCK_IO_ERROR` (7.2, 10.0): `device` is empty for a drive of `-blockdev`.
fn disk_error(event: &QmpEvent) -> (HaltReason, StateDetails) {
    let is_full = event.data.get("nospace").and_then(Value::as_bool).unwrap_or_default();
    let (device, node) = (text(event, "device"), text(event, "node-name"));
    let (drive, node) = failed_drive(device, node);
    let details = StateDetails {
        drive,
        node,
        operation: Some(text(event, "operation").to_owned()).filter(|operation| !operation.is_empty()),
        message: Some(text(event, "reason").to_owned()).filter(|reason| !reason.is_empty()),
        ..StateDetails::default()
    };
    (if is_full { HaltReason::NoSpace } else { HaltReason::DiskError }, details)
}

/// Returns which disk failed, from the reply of `query-block`, for a QMP log that has no event about it.
pub fn failed_disk(query_block: &Value) -> Option<(HaltReason, StateDetails)> {
    let failed = |device: &&Value| matches!(device["io-status"].as_str(), Some("nospace" | "failed"));
    let device = query_block.as_array()?.iter().find(failed)?;
    let is_full = device["io-status"] == "nospace";
    let node = device["inserted"]["node-name"].as_str();
    let (drive, node) = failed_drive(device["device"].as_str().unwrap_or_default(), node.unwrap_or_default());
    let details = StateDetails { drive, node, ..StateDetails::default() };
    Some((if is_full { HaltReason::NoSpace } else { HaltReason::DiskError }, details))
}

/// Returns the name of a device or block node as that of a drive, if it can be one, and else as that of a block node.
///
/// A drive of `-drive` has a device; one with limits is that of the user's with its node.
fn failed_drive(device: &str, node: &str) -> (Option<String>, Option<String>) {
    let name = if device.is_empty() || device.starts_with(LIMITS_PREFIX) { node } else { device };
    if NodeName::parse(name).is_ok() { (Some(name.to_owned()), None) } else { (None, Some(name.to_owned())) }
}

/// Returns the action of the last watchdog event.
fn watchdog(events: &[QmpEvent]) -> Option<&str> {
    let at = events.iter().rposition(|event| event.name == "WATCHDOG")?;
    // A later power button was not the watchdog's.
    let presses = events[at..].iter().filter(|event| event.name == "POWERDOWN").count();
    (presses <= 1).then(|| text(&events[at], "action"))
}

fn panic_details(events: &[QmpEvent]) -> StateDetails {
    let panic = events.iter().rfind(|event| event.name == "GUEST_PANICKED");
    let info = panic.and_then(|event| event.data.get("info")).filter(|info| !info.is_null());
    let action = watchdog(events).filter(|action| *action == "inject-nmi").map(str::to_owned);
    StateDetails { message: info.map(Value::to_string), action, ..StateDetails::default() }
}

fn text<'e>(event: &'e QmpEvent, key: &str) -> &'e str {
    event.data.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn signal_name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".to_owned(),
        2 => "SIGINT".to_owned(),
        15 => "SIGTERM".to_owned(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(name: &str, seconds: i64, data: Value) -> QmpEvent {
        QmpEvent { name: name.to_owned(), at: Timestamp::from_second(seconds).unwrap(), data }
    }

    fn shutdown(reason: &str) -> QmpEvent {
        event("SHUTDOWN", 9, json!({ "reason": reason }))
    }

    fn watchdog_event(action: &str) -> QmpEvent {
        event("WATCHDOG", 8, json!({ "action": action }))
    }

    fn plain(name: &str) -> QmpEvent {
        event(name, 8, Value::Null)
    }

    fn after(events: Vec<QmpEvent>) -> ExitEvidence {
        ExitEvidence { events, removed_pid_file: Some(true), ..ExitEvidence::default() }
    }

    #[track_caller]
    fn check(traces: &ExitEvidence, reason: StopReason, details: &str) {
        let report = traces.conclude();

        let found = (report.end.map(|end| end.reason), report.details.to_string());
        assert_eq!(found, (Some(reason), details.to_owned()), "{traces:?}");
    }

    #[test]
    fn test_conclude_knows_every_cause_of_a_shutdown() {
        for (cause, expected) in [
            ("none", StopReason::Unknown),
            ("host-error", StopReason::QemuError),
            ("host-qmp-quit", StopReason::HostQuit),
            ("host-qmp-system-reset", StopReason::HostReset),
            ("host-signal", StopReason::HostSignal),
            ("host-ui", StopReason::HostQuit),
            ("guest-shutdown", StopReason::GuestShutdown),
            ("guest-reset", StopReason::GuestReset),
            ("guest-panic", StopReason::GuestPanic),
            ("subsystem-reset", StopReason::Unknown),
            ("snapshot-load", StopReason::Unknown),
        ] {
            let traces = after(vec![plain("POWERDOWN"), shutdown(cause), plain("STOP")]);

            check(&traces, expected, "");
            assert_eq!(traces.conclude().end.unwrap().at, Some(Timestamp::from_second(9).unwrap()));
        }
    }

    #[test]
    fn test_conclude_watchdog_is_the_cause_of_what_its_action_does() {
        check(&after(vec![watchdog_event("reset"), shutdown("guest-reset")]), StopReason::Watchdog, "action `reset`");
        check(&after(vec![watchdog_event("poweroff")]), StopReason::Watchdog, "action `poweroff`");
        let pressed = vec![watchdog_event("shutdown"), plain("POWERDOWN"), shutdown("guest-shutdown")];
        check(&after(pressed.clone()), StopReason::Watchdog, "action `shutdown`");
        // The guest ignored its watchdog, and the button was pressed later.
        let mut again = pressed;
        again.insert(2, plain("POWERDOWN"));
        check(&after(again), StopReason::GuestShutdown, "");
        let nmi = vec![watchdog_event("inject-nmi"), plain("GUEST_PANICKED"), shutdown("guest-panic")];
        check(&after(nmi), StopReason::GuestPanic, "action `inject-nmi`");
        // It was reset, and ended much later.
        let reset = vec![watchdog_event("reset"), plain("RESET"), shutdown("guest-reset")];
        check(&after(reset), StopReason::GuestReset, "");
    }

    #[test]
    fn test_conclude_debug_exit_with_event_and_without() {
        let with = |events| ExitEvidence { has_debug_exit: true, ..after(events) };

        check(&with(vec![]), StopReason::DebugExit, "");
        check(&with(vec![shutdown("guest-shutdown")]), StopReason::DebugExit, "");
        check(&with(vec![shutdown("guest-reset")]), StopReason::GuestReset, "");
        let killed = ExitEvidence { removed_pid_file: Some(false), ..with(vec![]) };
        assert_eq!(killed.conclude(), ExitReport::default());
    }

    #[test]
    fn test_conclude_shutdown_before_resume_or_reset_is_not_the_end() {
        for start in ["RESUME", "RESET"] {
            let traces =
                ExitEvidence { removed_pid_file: None, ..after(vec![shutdown("guest-shutdown"), plain(start)]) };

            assert_eq!(traces.conclude(), ExitReport::default());
        }
    }

    #[test]
    fn test_conclude_quit_after_the_guest_was_off_is_its_shutdown() {
        let traces = after(vec![shutdown("guest-shutdown"), plain("STOP"), shutdown("host-qmp-quit")]);

        check(&traces, StopReason::GuestShutdown, "");
    }

    #[test]
    fn test_conclude_signal_names_its_sender() {
        for (stderr, details) in [
            ("terminating on signal 15 from pid 77 (/usr/bin/kill)", "SIGTERM from process 77 (`kill`)"),
            ("terminating on signal 1 from pid 77 (<unknown process>)", "SIGHUP from process 77"),
            ("terminating on signal 2", "SIGINT"),
            ("", ""),
        ] {
            let traces = ExitEvidence { stderr: stderr.to_owned(), ..after(vec![shutdown("host-signal")]) };

            check(&traces, StopReason::HostSignal, details);
        }
    }

    #[test]
    fn test_conclude_exit_without_event_is_what_qemu_wrote() {
        let with = |stderr: &str| ExitEvidence { stderr: stderr.to_owned(), ..after(vec![]) };

        check(&with("Failed to flush the L2 table\nwarning: x"), StopReason::QemuError, "Failed to flush the L2 table");
        check(&with("warning: TCG doesn't support x"), StopReason::Unknown, "");
    }

    #[test]
    fn test_conclude_killed_is_what_the_kernel_or_an_assertion_says() {
        let killed = |kernel, stderr: &str| ExitEvidence {
            kernel,
            stderr: stderr.to_owned(),
            removed_pid_file: Some(false),
            ..ExitEvidence::default()
        };
        let assertion = "../hw/x.c:7: f: Assertion `a' failed.";

        check(&killed(KernelReport::OutOfMemory("m".to_owned()), ""), StopReason::OutOfMemory, "m");
        check(&killed(KernelReport::Fault("segfault".to_owned()), ""), StopReason::Crashed, "segfault");
        for kernel in [KernelReport::Unknown, KernelReport::OutOfMemory("m".to_owned())] {
            check(&killed(kernel, assertion), StopReason::Crashed, &format!("SIGABRT: {assertion}"));
        }
        assert_eq!(killed(KernelReport::Unknown, "some error").conclude(), ExitReport::default());
        let nearby = killed(KernelReport::MemoryKillNearby("m".to_owned()), "").conclude();
        assert_eq!((nearby.end, nearby.details.message.as_deref()), (None, Some("m")));
    }

    fn io_error(node: &str, is_full: bool, action: &str) -> QmpEvent {
        let data = json!({ "device": "", "node-name": node, "nospace": is_full, "operation": "write",
            "reason": "No space left on device", "action": action });
        event("BLOCK_IO_ERROR", 1, data)
    }

    #[test]
    fn test_explain_halt_disk_is_that_of_the_last_error_that_stops() {
        let events = [io_error("old", false, "stop"), io_error("data", true, "stop"), io_error("x", true, "report")];

        let (halted, details) = explain_halt(HaltReason::DiskError, &events, "");

        assert_eq!(halted, HaltReason::NoSpace);
        assert_eq!(details.to_string(), "drive `data`, write: No space left on device");
        let (_, details) = explain_halt(HaltReason::DiskError, &[io_error("#block7", false, "stop")], "");
        assert_eq!((details.drive, details.node.as_deref()), (None, Some("#block7")));
        assert_eq!(explain_halt(HaltReason::DiskError, &[], ""), (HaltReason::DiskError, StateDetails::default()));
    }

    #[test]
    fn test_failed_disk_is_found_by_its_status() {
        let devices = json!([
            { "device": "ide0", "io-status": "ok" },
            { "device": "", "io-status": "nospace", "inserted": { "node-name": "data" } },
        ]);
        let limited =
            json!([{ "device": "maqet-limits-data", "io-status": "failed", "inserted": { "node-name": "data" } }]);

        let (halted, details) = failed_disk(&devices).unwrap();

        assert_eq!((halted, details.drive.as_deref()), (HaltReason::NoSpace, Some("data")));
        assert_eq!(failed_disk(&limited).unwrap().1.drive.as_deref(), Some("data"));
        assert_eq!(failed_disk(&json!([{ "device": "a", "io-status": "ok" }])), None);
        assert_eq!(failed_disk(&json!({})), None);
    }
}
