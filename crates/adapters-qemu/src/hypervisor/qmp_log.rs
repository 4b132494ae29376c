//! The QMP log: a monitor that QEMU writes to a file for as long as it runs.
//!
//! QEMU reads the negotiation, without which it sends no events, from a FIFO. It is written before QEMU starts, so that
//! the log has every event, even if the process that starts QEMU is killed.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use maqet_adapters_linux::private_file::{fresh_fifo, fresh_log, read_tail};
use maqet_domain::qmp::QmpEvent;
use maqet_domain::vm::{RunPaths, ShutdownEvent, StopReason};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use serde_json::Value;

use crate::limits::{CONNECT_RETRY_INTERVAL, MAX_QMP_LOG_TAIL_BYTES, QMP_LOG_TIMEOUT};

const NEGOTIATION: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// The key of the reply to it.
const REPLY: &[u8] = b"\"return\"";

/// The FIFO of the QMP log with the negotiation in it, until QEMU has read it.
///
/// The content of a FIFO is lost when no process has it open.
#[derive(Debug)]
pub(super) struct QmpLog {
    _fifo: OwnedFd,
    log: PathBuf,
}

impl QmpLog {
    /// Creates the FIFO and the log of a run, and writes the negotiation.
    pub(super) fn prepare(paths: &RunPaths) -> io::Result<Self> {
        fresh_log(&paths.qmp_log())?;
        fresh_fifo(&paths.qmp_log_fifo())?;
        Self::negotiate(paths)
    }

    /// Writes the negotiation to the existing FIFO.
    fn negotiate(paths: &RunPaths) -> io::Result<Self> {
        // For reading as well: opening a FIFO for writing only waits for a reader.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = open(paths.qmp_log_fifo(), flags, Mode::empty())?;
        if !FileType::from_raw_mode(fstat(&fifo)?.st_mode).is_fifo() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"));
        }
        if rustix::io::write(&fifo, NEGOTIATION)? != NEGOTIATION.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(Self { _fifo: fifo, log: paths.qmp_log() })
    }

    /// Waits until QEMU replied in the log; events before that are not logged.
    ///
    /// The monitors of QEMU start one after the other: one that quits as soon as another monitor responds would log no
    /// shutdown (seen one time in ten).
    pub(super) async fn is_on(&self) {
        let replied = async {
            while !is_on(&self.log) {
                tokio::time::sleep(CONNECT_RETRY_INTERVAL).await;
            }
        };
        let _ = tokio::time::timeout(QMP_LOG_TIMEOUT, replied).await;
    }
}

/// Turns the QMP log of a running QEMU on, if it is off.
///
/// The process that started QEMU may have been killed before QEMU had the FIFO open, and the negotiation was lost.
pub(super) async fn turn_on(paths: &RunPaths) -> io::Result<()> {
    if !is_on(&paths.qmp_log()) {
        QmpLog::negotiate(paths)?.is_on().await;
    }
    Ok(())
}

/// Returns whether QEMU replied to the negotiation.
fn is_on(log: &Path) -> bool {
    fs::read(log).is_ok_and(|log| log.windows(REPLY.len()).any(|part| part == REPLY))
}

/// Returns the reason for the exit of QEMU from its QMP log.
pub(super) fn shutdown_event(log: &Path) -> Option<ShutdownEvent> {
    last_shutdown(&read_tail(log, MAX_QMP_LOG_TAIL_BYTES).ok()?)
}

/// Searches for the last `SHUTDOWN`, from the end; lines that are not events are skipped.
fn last_shutdown(tail: &[u8]) -> Option<ShutdownEvent> {
    for line in tail.rsplit(|byte| *byte == b'\n') {
        let Some(event) = QmpEvent::parse(line) else { continue };
        match event.name.as_str() {
            "SHUTDOWN" => {
                let cause = event.data.get("reason").and_then(Value::as_str).unwrap_or_default();
                return Some(ShutdownEvent { reason: stop_reason(cause), at: event.at });
            }
            // QEMU was resumed after a shutdown (`-no-shutdown`), and its exit has another reason.
            "RESUME" | "RESET" => return None,
            _ => {}
        }
    }
    None
}

/// Converts a `ShutdownCause` (QAPI, 7.2).
fn stop_reason(cause: &str) -> StopReason {
    match cause {
        "guest-shutdown" => StopReason::GuestShutdown,
        "guest-reset" => StopReason::GuestReset,
        "guest-panic" => StopReason::GuestPanic,
        // The user closed the window, or a reset was an exit because of `-no-reboot`.
        "host-qmp-quit" | "host-qmp-system-reset" | "host-ui" => StopReason::HostQuit,
        "host-signal" => StopReason::HostSignal,
        "host-error" => StopReason::QemuError,
        _ => StopReason::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHUTDOWN: &str = concat!(
        r#"{"timestamp": {"seconds": 1700000000, "microseconds": 250000}, "event": "SHUTDOWN", "#,
        r#""data": {"guest": true, "reason": "guest-shutdown"}}"#,
    );

    fn event(name: &str) -> String {
        format!(r#"{{"timestamp": {{"seconds": 1, "microseconds": 2}}, "event": "{name}"}}"#)
    }

    #[test]
    fn test_last_shutdown_is_found_among_other_events() {
        let log = format!("{}\r\n{SHUTDOWN}\r\n{}\r\n", event("POWERDOWN"), event("STOP"));

        let shutdown = last_shutdown(log.as_bytes()).unwrap();

        assert_eq!(shutdown.reason, StopReason::GuestShutdown);
        assert_eq!(shutdown.at, "2023-11-14T22:13:20.25Z".parse().unwrap());
    }

    #[test]
    fn test_last_shutdown_skips_invalid_lines() {
        let log = [b"REASON\": 7}\n".as_slice(), SHUTDOWN.as_bytes(), b"\n\xff\xfe\n{\"event\": \"SHUT"].concat();

        assert!(last_shutdown(&log).is_some());
    }

    #[test]
    fn test_last_shutdown_before_resume_is_none() {
        let log = format!("{SHUTDOWN}\n{}\n", event("RESUME"));

        assert_eq!(last_shutdown(log.as_bytes()), None);
    }

    #[test]
    fn test_last_shutdown_of_empty_log_is_none() {
        assert_eq!(last_shutdown(b""), None);
        assert_eq!(shutdown_event(Path::new("/nonexistent")), None);
    }

    #[test]
    fn test_stop_reason_knows_every_cause_of_7_2() {
        for (cause, expected) in [
            ("none", StopReason::Unknown),
            ("host-error", StopReason::QemuError),
            ("host-qmp-quit", StopReason::HostQuit),
            ("host-qmp-system-reset", StopReason::HostQuit),
            ("host-signal", StopReason::HostSignal),
            ("host-ui", StopReason::HostQuit),
            ("guest-shutdown", StopReason::GuestShutdown),
            ("guest-reset", StopReason::GuestReset),
            ("guest-panic", StopReason::GuestPanic),
            ("subsystem-reset", StopReason::Unknown),
            ("snapshot-load", StopReason::Unknown),
        ] {
            assert_eq!(stop_reason(cause), expected, "{cause}");
        }
    }

    proptest! {
        #[test]
        fn test_last_shutdown_any_bytes_do_not_panic(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = last_shutdown(&tail);
        }
    }
}
