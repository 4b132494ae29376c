//! The QMP log: a monitor that QEMU writes to a file for as long as it runs.
//!
//! QEMU reads the negotiation, without which it sends no events, from a FIFO. It is written before QEMU starts, so that
//! the log has every event, even if the process that starts QEMU is killed.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use maqet_adapters_linux::log_file::read_part;
use maqet_adapters_linux::private_file::{fresh_fifo, fresh_log, open_regular};
use maqet_domain::vm::RunPaths;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use crate::limits::{CONNECT_RETRY_INTERVAL, QMP_LOG_TIMEOUT};

const NEGOTIATION: &[u8] = b"{\"execute\":\"qmp_capabilities\"}\n";

/// How much of a log is searched for the reply; the greeting before it has 200 bytes.
const MAX_NEGOTIATION_BYTES: usize = 4 << 10;

/// The key of the reply to it.
const REPLY: &[u8] = b"\"return\"";

/// The key of what QEMU writes before it.
const GREETING: &[u8] = b"\"QMP\"";

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
    begins_with(log, REPLY)
}

/// Returns whether QEMU has written its greeting.
pub(super) fn has_greeting(log: &Path) -> bool {
    begins_with(log, GREETING)
}

/// Returns whether a log has this part of the negotiation.
fn begins_with(log: &Path, wanted: &[u8]) -> bool {
    let read = open_regular(log).and_then(|log| read_part(&log, 0, MAX_NEGOTIATION_BYTES));
    // A log whose start was dropped had it, or it would not have grown.
    read.is_ok_and(|start| start.offset > 0 || start.bytes.windows(wanted.len()).any(|part| part == wanted))
}
