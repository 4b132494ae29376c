//! The flight recorder: a monitor into a file, which QEMU writes by itself for as long as it lives.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use maqet_adapters_linux::private_file::fresh_log;
use maqet_domain::qmp::QmpEvent;
use maqet_domain::vm::{RunPaths, Shutdown, StopReason};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkfifoat, open};
use serde_json::Value;

use crate::limits::{CONNECT_PAUSE, RECORDER_DEADLINE, RECORDER_TAIL_BYTES};

const NEGOTIATION: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// The key of the answer to it.
const ANSWER: &[u8] = b"\"return\"";

/// The recorder's FIFO with the negotiation in it, waiting for QEMU to read it.
///
/// Held until QEMU is up: what is in a FIFO is gone when nobody has it open.
#[derive(Debug)]
pub(super) struct Recorder {
    _fifo: OwnedFd,
    log: PathBuf,
}

impl Recorder {
    /// Makes the FIFO and the log of a run, new, and asks for events before QEMU is even there.
    ///
    /// Written beforehand, so that the recorder is on from QEMU's first event, and whoever starts it may die at any
    /// moment.
    pub(super) fn prepare(paths: &RunPaths) -> io::Result<Self> {
        let fifo = paths.recorder_fifo();
        match fs::remove_file(&fifo) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
            Ok(()) | Err(_) => {}
        }
        fresh_log(&paths.recorder_log())?;
        mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR)?;
        // Whatever the umask took away.
        rustix::fs::chmodat(CWD, &fifo, Mode::RUSR | Mode::WUSR, rustix::fs::AtFlags::empty())?;

        Self::ask(paths)
    }

    /// Asks for events through the FIFO that is there.
    fn ask(paths: &RunPaths) -> io::Result<Self> {
        // For reading too: opening a FIFO only for writing waits for a reader.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = open(paths.recorder_fifo(), flags, Mode::empty())?;
        if !FileType::from_raw_mode(fstat(&fifo)?.st_mode).is_fifo() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no FIFO"));
        }
        if rustix::io::write(&fifo, NEGOTIATION)? != NEGOTIATION.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(Self { _fifo: fifo, log: paths.recorder_log() })
    }

    /// Waits until QEMU answered in the log; what happens before that goes unrecorded.
    ///
    /// The monitors of QEMU come up one after the other: a machine that is told to end as soon as another of them
    /// answers would leave no word (seen, one time in some ten).
    pub(super) async fn is_on(&self) {
        let answered = async {
            while !is_on(&self.log) {
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
        };
        let _ = tokio::time::timeout(RECORDER_DEADLINE, answered).await;
    }
}

/// Switches the recorder of a machine on that lives, if it is not.
///
/// Who started it may have been killed after it was spawned and before it had the FIFO open: what stood in the FIFO was
/// lost with its last holder.
pub(super) async fn switch_on(paths: &RunPaths) -> io::Result<()> {
    if !is_on(&paths.recorder_log()) {
        Recorder::ask(paths)?.is_on().await;
    }
    Ok(())
}

/// Returns whether QEMU took the negotiation.
fn is_on(log: &Path) -> bool {
    fs::read(log).is_ok_and(|log| log.windows(ANSWER.len()).any(|part| part == ANSWER))
}

/// Returns what QEMU wrote about its own end in the recorder's log, if it did.
pub(super) fn shutdown_event(log: &Path) -> Option<Shutdown> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok().filter(fs::Metadata::is_file)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(RECORDER_TAIL_BYTES))).ok()?;
    let mut tail = Vec::new();
    file.take(RECORDER_TAIL_BYTES).read_to_end(&mut tail).ok()?;
    last_shutdown(&tail)
}

/// Reads backwards to the last `SHUTDOWN`; lines that are no events are passed over.
fn last_shutdown(tail: &[u8]) -> Option<Shutdown> {
    for line in tail.rsplit(|byte| *byte == b'\n') {
        let Some(event) = QmpEvent::parse(line) else { continue };
        match event.name.as_str() {
            "SHUTDOWN" => {
                let cause = event.data.get("reason").and_then(Value::as_str).unwrap_or_default();
                return Some(Shutdown { reason: reason(cause), at: event.at });
            }
            // A machine that stays after its shutdown (`-no-shutdown`) was made to go on; what came later has no word.
            "RESUME" | "RESET" => return None,
            _ => {}
        }
    }
    None
}

/// Returns our word for QEMU's `ShutdownCause` (QAPI, 7.2).
fn reason(cause: &str) -> StopReason {
    match cause {
        "guest-shutdown" | "guest-reset" | "guest-panic" => StopReason::GuestShutdown,
        // Closing its window is a way to tell QEMU to quit; so is a reset that `-no-reboot` turned into an end.
        "host-qmp-quit" | "host-qmp-system-reset" | "host-ui" => StopReason::HostQuit,
        "host-signal" => StopReason::HostSignal,
        "host-error" => StopReason::Crashed,
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
    fn test_last_shutdown_is_found_behind_other_events() {
        let log = format!("{}\r\n{SHUTDOWN}\r\n{}\r\n", event("POWERDOWN"), event("STOP"));

        let word = last_shutdown(log.as_bytes()).unwrap();

        assert_eq!(word.reason, StopReason::GuestShutdown);
        assert_eq!(word.at, "2023-11-14T22:13:20.25Z".parse().unwrap());
    }

    #[test]
    fn test_last_shutdown_half_lines_and_garbage_are_passed_over() {
        let log = [b"REASON\": 7}\n".as_slice(), SHUTDOWN.as_bytes(), b"\n\xff\xfe\n{\"event\": \"SHUT"].concat();

        assert!(last_shutdown(&log).is_some());
    }

    #[test]
    fn test_last_shutdown_of_a_machine_that_went_on_is_none() {
        let log = format!("{SHUTDOWN}\n{}\n", event("RESUME"));

        assert_eq!(last_shutdown(log.as_bytes()), None);
    }

    #[test]
    fn test_last_shutdown_nothing_written_is_none() {
        assert_eq!(last_shutdown(b""), None);
        assert_eq!(shutdown_event(Path::new("/nonexistent")), None);
    }

    #[test]
    fn test_reason_every_cause_of_7_2_has_a_word() {
        for (cause, expected) in [
            ("none", StopReason::Unknown),
            ("host-error", StopReason::Crashed),
            ("host-qmp-quit", StopReason::HostQuit),
            ("host-qmp-system-reset", StopReason::HostQuit),
            ("host-signal", StopReason::HostSignal),
            ("host-ui", StopReason::HostQuit),
            ("guest-shutdown", StopReason::GuestShutdown),
            ("guest-reset", StopReason::GuestShutdown),
            ("guest-panic", StopReason::GuestShutdown),
            ("subsystem-reset", StopReason::Unknown),
            ("snapshot-load", StopReason::Unknown),
        ] {
            assert_eq!(reason(cause), expected, "{cause}");
        }
    }

    proptest! {
        #[test]
        fn test_last_shutdown_any_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = last_shutdown(&tail);
        }
    }
}
