//! A console whose output is the serial log, and whose input is a FIFO.
//!
//! Whatever a client does, QEMU is never kept from writing: a client that does not read just falls behind in the log.
//! Input that the guest does not read stays in the FIFO, which QEMU has open for as long as it runs.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use maqet_adapters_linux::log_file::read_part;
use maqet_adapters_linux::private_file::open_regular;
use maqet_domain::port::{ConsoleError, ConsoleStream};
use maqet_domain::vm::RunPaths;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, inotify, openat};
use tokio::net::unix::pipe;
use tokio::time::{sleep, timeout};

use super::{Claim, failed};
use crate::limits::{CONSOLE_POLL_INTERVAL, CONSOLE_READ_BYTES, CONSOLE_RELEASE_INTERVAL};

/// A console that follows the log of the serial port.
pub(super) struct PipeConsole {
    log: File,
    /// The length of the log when the console was opened.
    start: u64,
    /// Where the next read of the log begins.
    position: AtomicU64,
    /// Reports changes of the log; without it, as where a user has too many, the log is polled.
    changes: Option<pipe::Receiver>,
    /// The writing end of the FIFO.
    input: pipe::Sender,
    path: PathBuf,
    has_ended: AtomicBool,
    _claim: Claim,
}

impl PipeConsole {
    /// Opens the console of a run at the end of its log; input that an earlier client left unread is dropped.
    pub(super) fn open(paths: &RunPaths, claim: Claim) -> io::Result<Self> {
        let path = paths.serial_input();
        let input = open_fifo(&path, OFlags::WRONLY)?;
        drop_unread(&path, &input);
        let log = open_regular(&paths.serial_log())?;
        let start = log.metadata()?.len();
        Ok(Self {
            start,
            position: AtomicU64::new(start),
            log,
            changes: changes_of(&paths.serial_log()).ok(),
            input: pipe::Sender::from_owned_fd(input)?,
            path,
            has_ended: AtomicBool::new(false),
            _claim: claim,
        })
    }

    /// Returns the output since the last call; empty if there is none.
    fn new_output(&self) -> io::Result<Vec<u8>> {
        let position = self.position.load(Ordering::Relaxed);
        let mut chunk = read_part(&self.log, position, CONSOLE_READ_BYTES)?;
        if chunk.length < position {
            // It was truncated by another program.
            chunk = read_part(&self.log, 0, CONSOLE_READ_BYTES)?;
        }
        self.position.store(chunk.offset.min(chunk.length) + chunk.bytes.len() as u64, Ordering::Relaxed);
        Ok(chunk.bytes)
    }

    /// Returns whether QEMU has closed the FIFO, which happens when it exits.
    fn is_closed(&self) -> bool {
        let mut fds = [PollFd::new(&self.input, PollFlags::OUT)];
        poll(&mut fds, Some(&Timespec::default())).is_ok() && fds[0].revents().contains(PollFlags::ERR)
    }

    /// Returns whether the input has ended, and QEMU has read all of it.
    fn is_delivered(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed) && unread(&self.input) == 0
    }

    /// Waits for a change of the log, or for a moment.
    async fn changed(&self) {
        if self.has_ended.load(Ordering::Relaxed) {
            return sleep(CONSOLE_RELEASE_INTERVAL).await;
        }
        let Some(changes) = &self.changes else { return sleep(CONSOLE_RELEASE_INTERVAL).await };
        if timeout(CONSOLE_POLL_INTERVAL, changes.readable()).await.is_ok() {
            // Their content does not matter; those that are left make the next wait return at once.
            let _ = changes.try_read(&mut [0; 4096]);
        }
    }

    fn failed(&self, error: io::Error) -> ConsoleError {
        failed(self.path.clone(), error)
    }
}

#[async_trait]
impl ConsoleStream for PipeConsole {
    fn input(&self) -> &Path {
        &self.path
    }

    fn log_position(&self) -> Option<u64> {
        Some(self.start)
    }

    async fn read(&self) -> Result<Vec<u8>, ConsoleError> {
        loop {
            if self.is_delivered() {
                return Ok(Vec::new());
            }
            // Checked before the read, so that the read includes the last output.
            let is_closed = self.is_closed();
            let output = self.new_output().map_err(|error| self.failed(error))?;
            if !output.is_empty() || is_closed {
                return Ok(output);
            }
            self.changed().await;
        }
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        loop {
            self.input.writable().await.map_err(|error| self.failed(error))?;
            match self.input.try_write(bytes) {
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn end(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
    }
}

impl Drop for PipeConsole {
    /// A guest that reads its input long after its sender left would act on something long forgotten.
    fn drop(&mut self) {
        drop_unread(&self.path, &self.input);
    }
}

/// Opens the FIFO of the input; for writing, this fails if QEMU does not have it open.
fn open_fifo(path: &Path, access: OFlags) -> io::Result<OwnedFd> {
    let flags = access | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fifo = openat(CWD, path, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&fifo)?.st_mode).is_fifo() {
        return Ok(fifo);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"))
}

/// Returns how much of the input QEMU has not read.
fn unread(input: impl AsFd) -> u64 {
    rustix::io::ioctl_fionread(input).unwrap_or_default()
}

/// Drops the input that QEMU has not read.
fn drop_unread(path: &Path, input: impl AsFd) {
    if unread(input) == 0 {
        return;
    }
    let Ok(output) = open_fifo(path, OFlags::RDONLY) else { return };
    let mut bytes = [0; 4096];
    while rustix::io::read(&output, &mut bytes).is_ok_and(|length| length > 0) {}
}

fn changes_of(log: &Path) -> io::Result<pipe::Receiver> {
    let changes = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&changes, log, inotify::WatchFlags::MODIFY)?;
    pipe::Receiver::from_owned_fd_unchecked(changes)
}
