//! The port [`Consoles`]: the socket that QEMU serves the first serial port on.

use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use maqet_adapters_linux::limits::LOCK_LEAST_PATIENCE;
use maqet_adapters_linux::private_file::private_file;
use maqet_adapters_linux::{pause, read_note, write_note};
use maqet_domain::command_line::SERIAL_CHARDEV;
use maqet_domain::port::{ConsoleError, ConsoleStream, Consoles, Monitors};
use maqet_domain::qmp::QmpCommand;
use maqet_domain::vm::RunPaths;
use rustix::net::{Shutdown, shutdown};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::QemuMonitors;
use crate::limits::{CONSOLE_ASK, CONSOLE_LET_GO, CONSOLE_READ_BYTES};

/// Attaches to the serial console of QEMU.
///
/// QEMU serves one client and lets others connect and wait without a word. Ours are told apart by a kernel lock beside
/// the socket, in which the holder is named; whether a stranger has it, QEMU tells.
#[derive(Debug, Clone, Copy, Default)]
pub struct QemuConsoles;

/// Returns the file that is locked while one of ours is attached.
pub(crate) fn console_lock(paths: &RunPaths) -> PathBuf {
    paths.sockets.join("serial.lock")
}

#[async_trait]
impl Consoles for QemuConsoles {
    async fn attach(&self, paths: &RunPaths) -> Result<Box<dyn ConsoleStream>, ConsoleError> {
        let socket = paths.serial_socket();
        let failed = |why: io::Error| match why.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ConsoleError::Unavailable { socket: socket.clone(), serial: None }
            }
            _ => ConsoleError::Failed { socket: socket.clone(), source: why.into() },
        };
        // Before the lock, which would make a file in the folder of a machine that has no console.
        socket.symlink_metadata().map_err(failed)?;
        let claim = Claim::take(paths).await.map_err(failed)??;
        if is_taken_by_a_stranger(paths).await {
            return Err(ConsoleError::InUse { holder: None });
        }
        let stream = UnixStream::connect(&socket).await.map_err(failed)?;
        Ok(Box::new(Attached { stream, socket, _claim: claim }))
    }
}

/// The right to be attached, until it is dropped or its process ends.
struct Claim(File);

impl Claim {
    async fn take(paths: &RunPaths) -> io::Result<Result<Self, ConsoleError>> {
        let file = private_file(&console_lock(paths))?;
        let until = Instant::now() + LOCK_LEAST_PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < until => pause().await,
                Err(TryLockError::WouldBlock) => {
                    return Ok(Err(ConsoleError::InUse { holder: read_note(&file).map(|note| note.holder) }));
                }
                Err(TryLockError::Error(why)) => return Err(why),
            }
        }
        // Who holds it is told as a courtesy; on a full disk the lock still locks.
        let _ = write_note(&file, "console");
        Ok(Ok(Self(file)))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = self.0.set_len(0);
        // Closing is not enough: a child being spawned right now has a copy of the file until its `exec`.
        let _ = self.0.unlock();
    }
}

/// Returns whether QEMU has a client there still, although none of ours is.
///
/// It notices only in its main loop that one of ours has left, so it is given a moment. One that does not answer is
/// taken for free: its console then says as little.
async fn is_taken_by_a_stranger(paths: &RunPaths) -> bool {
    let until = Instant::now() + CONSOLE_LET_GO;
    loop {
        let asked = QemuMonitors.execute(paths, &QmpCommand::new("query-chardev"), CONSOLE_ASK).await;
        if !asked.is_ok_and(|chardevs| is_connected(&chardevs)) {
            return false;
        }
        if Instant::now() >= until {
            return true;
        }
        pause().await;
    }
}

/// Returns whether the serial console has a client; a socket without one is shown as `disconnected:…` (7.2).
fn is_connected(chardevs: &Value) -> bool {
    let all = chardevs.as_array().map(Vec::as_slice).unwrap_or_default();
    let serial = all.iter().find(|chardev| chardev["label"] == SERIAL_CHARDEV);
    serial.and_then(|chardev| chardev["filename"].as_str()).is_some_and(|shown| !shown.starts_with("disconnected:"))
}

struct Attached {
    /// Closed before the claim is given up, so that the next one finds the console free.
    stream: UnixStream,
    socket: PathBuf,
    _claim: Claim,
}

impl Attached {
    fn failed(&self, why: io::Error) -> ConsoleError {
        ConsoleError::Failed { socket: self.socket.clone(), source: why.into() }
    }
}

/// Returns whether QEMU has closed the console, or is gone.
fn is_closed(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

#[async_trait]
impl ConsoleStream for Attached {
    async fn read(&self) -> Result<Vec<u8>, ConsoleError> {
        let mut bytes = vec![0; CONSOLE_READ_BYTES];
        loop {
            self.stream.readable().await.map_err(|why| self.failed(why))?;
            match self.stream.try_read(&mut bytes) {
                Ok(length) => {
                    bytes.truncate(length);
                    return Ok(bytes);
                }
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) if is_closed(&why) => return Ok(Vec::new()),
                Err(why) => return Err(self.failed(why)),
            }
        }
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        loop {
            self.stream.writable().await.map_err(|why| self.failed(why))?;
            match self.stream.try_write(bytes) {
                Ok(length) => return Ok(length),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) if is_closed(&why) => return Ok(0),
                Err(why) => return Err(self.failed(why)),
            }
        }
    }

    /// QEMU reads to the end of what was sent, as slowly as the guest takes it, and then disconnects us; of a client
    /// that just goes it drops whatever it has not read (7.2).
    fn end(&self) {
        // One that is closed already has nothing left to be told.
        let _ = shutdown(&self.stream, Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_is_connected_of_7_2_is_told_by_the_word_before_the_address() {
        let with =
            |shown: &str| json!([{"label": "qmp", "filename": "unix:/r/q"}, {"label": "serial0", "filename": shown}]);

        assert!(is_connected(&with("unix:/r/serial.sock,server=on")));
        assert!(!is_connected(&with("disconnected:unix:/r/serial.sock,server=on")));
        assert!(!is_connected(&json!([{"label": "qmp", "filename": "unix:/r/q"}])));
        assert!(!is_connected(&json!({})));
    }
}
