//! The port [`Consoles`]: the socket of the first serial port.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use maqet_adapters_linux::limits::MIN_LOCK_TIMEOUT;
use maqet_adapters_linux::private_file::private_file;
use maqet_adapters_linux::{LockedFile, read_holder, retry_pause, write_holder};
use maqet_domain::command_line::SERIAL_CHARDEV;
use maqet_domain::port::{ConsoleError, ConsoleStream, Consoles, Monitors};
use maqet_domain::qmp::QmpCommand;
use maqet_domain::qmp::wording::is_disconnected_socket;
use maqet_domain::vm::RunPaths;
use rustix::net::{Shutdown, shutdown};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::QemuMonitors;
use crate::limits::{CONSOLE_QUERY_TIMEOUT, CONSOLE_READ_BYTES, CONSOLE_RELEASE_TIMEOUT};

/// Attaches to the serial console of QEMU.
///
/// QEMU serves one client, and lets others connect and wait silently. A lock beside the socket names the maqet process
/// that is attached; QEMU reports whether another program is.
#[derive(Debug, Clone, Copy, Default)]
pub struct QemuConsoles;

/// Returns the file that is locked while a maqet process is attached.
pub(crate) fn console_lock(paths: &RunPaths) -> PathBuf {
    paths.sockets.join("serial.lock")
}

#[async_trait]
impl Consoles for QemuConsoles {
    async fn attach(&self, paths: &RunPaths) -> Result<Box<dyn ConsoleStream>, ConsoleError> {
        let socket = paths.serial_socket();
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ConsoleError::Unavailable { socket: socket.clone(), serial: None }
            }
            _ => ConsoleError::Failed { socket: socket.clone(), source: error.into() },
        };
        // Before the lock, whose file must not be created for a VM without a console.
        socket.symlink_metadata().map_err(failed)?;
        let claim = Claim::take(paths).await.map_err(failed)??;
        if is_used_by_another_program(paths).await {
            return Err(ConsoleError::InUse { holder: None });
        }
        let stream = UnixStream::connect(&socket).await.map_err(failed)?;
        Ok(Box::new(Attached { stream, socket, _claim: claim }))
    }
}

/// The right to be attached.
struct Claim(LockedFile);

impl Claim {
    async fn take(paths: &RunPaths) -> io::Result<Result<Self, ConsoleError>> {
        let file = private_file(&console_lock(paths))?;
        match LockedFile::lock(file, Instant::now() + MIN_LOCK_TIMEOUT).await? {
            Ok(file) => {
                // A courtesy to others: without it, as on a full disk, the lock is held all the same.
                let _ = write_holder(&file, "console");
                Ok(Ok(Self(file)))
            }
            Err(file) => Ok(Err(ConsoleError::InUse { holder: read_holder(&file) })),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = self.0.set_len(0);
    }
}

/// Returns whether QEMU has a client although no maqet process is attached.
///
/// QEMU notices in its main loop that the previous client disconnected, which may take a moment. One that does not respond
/// is assumed to have none: its console is silent as well.
async fn is_used_by_another_program(paths: &RunPaths) -> bool {
    let deadline = Instant::now() + CONSOLE_RELEASE_TIMEOUT;
    loop {
        let reply = QemuMonitors.execute(paths, &QmpCommand::new("query-chardev"), CONSOLE_QUERY_TIMEOUT).await;
        if !reply.is_ok_and(|chardevs| is_connected(&chardevs)) {
            return false;
        }
        if Instant::now() >= deadline {
            return true;
        }
        retry_pause().await;
    }
}

/// Returns whether the serial console has a client.
fn is_connected(chardevs: &Value) -> bool {
    let all = chardevs.as_array().map(Vec::as_slice).unwrap_or_default();
    let serial = all.iter().find(|chardev| chardev["label"] == SERIAL_CHARDEV);
    serial.and_then(|chardev| chardev["filename"].as_str()).is_some_and(|name| !is_disconnected_socket(name))
}

struct Attached {
    /// Closed before the claim ends, so that the next process finds the console free.
    stream: UnixStream,
    socket: PathBuf,
    _claim: Claim,
}

impl Attached {
    fn failed(&self, error: io::Error) -> ConsoleError {
        ConsoleError::Failed { socket: self.socket.clone(), source: error.into() }
    }
}

/// Returns whether QEMU closed the console or is gone.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

#[async_trait]
impl ConsoleStream for Attached {
    async fn read(&self) -> Result<Vec<u8>, ConsoleError> {
        let mut bytes = vec![0; CONSOLE_READ_BYTES];
        loop {
            self.stream.readable().await.map_err(|error| self.failed(error))?;
            match self.stream.try_read(&mut bytes) {
                Ok(length) => {
                    bytes.truncate(length);
                    return Ok(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_closed(&error) => return Ok(Vec::new()),
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, ConsoleError> {
        loop {
            self.stream.writable().await.map_err(|error| self.failed(error))?;
            match self.stream.try_write(bytes) {
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_closed(&error) => return Ok(0),
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// QEMU reads everything that was sent, as slowly as the guest takes it, and then disconnects; the rest of the input
    /// of a client that disconnects is dropped (7.2).
    fn end(&self) {
        // It may be closed already.
        let _ = shutdown(&self.stream, Shutdown::Write);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn test_is_connected_is_read_from_filename_of_7_2() {
        let with =
            |shown: &str| json!([{"label": "qmp", "filename": "unix:/r/q"}, {"label": "serial0", "filename": shown}]);

        assert!(is_connected(&with("unix:/r/serial.sock,server=on")));
        assert!(!is_connected(&with("disconnected:unix:/r/serial.sock,server=on")));
        assert!(!is_connected(&json!([{"label": "qmp", "filename": "unix:/r/q"}])));
        assert!(!is_connected(&json!({})));
    }
}
