//! A console at a socket, as VMs have it that were started before the console was a pipe.
//!
//! QEMU serves one client, and lets others connect and wait silently. A client that does not read keeps QEMU from
//! writing the log as well.

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use maqet_adapters_linux::retry_pause;
use maqet_domain::machine::defaults::SERIAL_CHARDEV;
use maqet_domain::port::{ConsoleError, ConsoleStream, Monitors};
use maqet_domain::qmp::QmpCommand;
use maqet_domain::qmp::wording::is_disconnected_socket;
use maqet_domain::vm::RunPaths;
use rustix::net::{Shutdown, shutdown};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::{Claim, failed};
use crate::QemuMonitors;
use crate::limits::{CONSOLE_QUERY_TIMEOUT, CONSOLE_READ_BYTES, CONSOLE_RELEASE_TIMEOUT};

/// A console that is connected to QEMU.
pub(super) struct SocketConsole {
    /// Closed before the claim ends, so that the next process finds the console free.
    stream: UnixStream,
    socket: PathBuf,
    _claim: Claim,
}

impl SocketConsole {
    /// Connects to the console of a run, unless another program is connected.
    pub(super) async fn connect(paths: &RunPaths, socket: PathBuf, claim: Claim) -> Result<Self, ConsoleError> {
        if is_used_by_another_program(paths).await {
            return Err(ConsoleError::InUse { holder: None });
        }
        let stream = UnixStream::connect(&socket).await.map_err(|error| failed(socket.clone(), error))?;
        Ok(Self { stream, socket, _claim: claim })
    }

    fn failed(&self, error: io::Error) -> ConsoleError {
        failed(self.socket.clone(), error)
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

/// Returns whether QEMU closed the console or is gone.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

#[async_trait]
impl ConsoleStream for SocketConsole {
    fn input(&self) -> &Path {
        &self.socket
    }

    fn log_position(&self) -> Option<u64> {
        None
    }

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
