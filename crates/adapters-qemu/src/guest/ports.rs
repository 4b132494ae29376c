//! The ports of commands.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use async_trait::async_trait;
use maqet_adapters_linux::LockedFile;
use maqet_adapters_linux::private_file::private_file;
use maqet_domain::guest::{GuestStream, Nonce, PortSet};
use maqet_domain::port::{GuestPorts, GuestStreams, PortClaim, PortError};
use maqet_domain::vm::RunPaths;
use rustix::net::{Shutdown, shutdown};
use tokio::net::UnixStream;

use super::{is_missing, port_lock};
use crate::limits::{MAX_PORT_NOTE_BYTES, PORT_READ_BYTES};

/// The ports of commands, at the sockets of QEMU.
#[derive(Debug, Clone, Copy, Default)]
pub struct QemuGuestPorts;

/// A set of ports that this process uses.
struct QemuPortClaim {
    lock: LockedFile,
    left: Option<Nonce>,
    sockets: [PathBuf; 3],
}

/// The connected ports of a command.
struct QemuGuestStreams {
    streams: [Option<UnixStream>; 3],
}

#[async_trait]
impl GuestPorts for QemuGuestPorts {
    async fn claim(&self, paths: &RunPaths, set: PortSet) -> Result<Option<Box<dyn PortClaim>>, PortError> {
        let sockets = GuestStream::ALL.map(|stream| paths.guest_stream(set, stream));
        // Before the lock, whose file must not be created for a VM without ports.
        if sockets.iter().any(|socket| socket.symlink_metadata().is_err()) {
            return Err(PortError::NotFound);
        }
        let file = private_file(&port_lock(paths, set)).map_err(failed)?;
        let Ok(lock) = LockedFile::try_lock(file).map_err(failed)? else { return Ok(None) };
        let mut note = [0; MAX_PORT_NOTE_BYTES];
        let length = lock.read_at(&mut note, 0).map_err(failed)?;
        let left = std::str::from_utf8(&note[..length]).ok().and_then(|note| Nonce::parse(note.trim_end()));
        Ok(Some(Box::new(QemuPortClaim { lock, left, sockets })))
    }
}

#[async_trait]
impl PortClaim for QemuPortClaim {
    fn left(&self) -> Option<Nonce> {
        self.left.clone()
    }

    fn note(&self, nonce: Option<Nonce>) {
        let note = nonce.as_ref().map(Nonce::first_line).unwrap_or_default();
        let written = self.lock.write_all_at(&note, 0).and_then(|()| self.lock.set_len(note.len() as u64));
        if let Err(error) = written {
            tracing::debug!(%error, "cannot note the command");
        }
    }

    async fn connect(&self, streams: &[GuestStream]) -> Result<Box<dyn GuestStreams>, PortError> {
        let mut connected = [None, None, None];
        for stream in streams {
            let socket = UnixStream::connect(&self.sockets[*stream as usize]).await;
            connected[*stream as usize] = Some(socket.map_err(failed)?);
        }
        Ok(Box::new(QemuGuestStreams { streams: connected }))
    }
}

impl QemuGuestStreams {
    fn stream(&self, stream: GuestStream) -> Option<&UnixStream> {
        self.streams[stream as usize].as_ref()
    }
}

#[async_trait]
impl GuestStreams for QemuGuestStreams {
    async fn read(&self, stream: GuestStream) -> Result<Vec<u8>, PortError> {
        let Some(socket) = self.stream(stream) else { return Ok(Vec::new()) };
        let mut bytes = Vec::with_capacity(PORT_READ_BYTES);
        loop {
            socket.readable().await.map_err(failed)?;
            match socket.try_read_buf(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_closed(&error) => return Ok(Vec::new()),
                read => return read.map(|_| bytes).map_err(failed),
            }
        }
    }

    fn read_now(&self, stream: GuestStream) -> Result<Vec<u8>, PortError> {
        let mut bytes = Vec::new();
        let Some(socket) = self.stream(stream) else { return Ok(bytes) };
        bytes.reserve(PORT_READ_BYTES);
        match socket.try_read_buf(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_closed(&error) => Ok(bytes),
            Err(error) => Err(failed(error)),
        }
    }

    async fn write(&self, bytes: &[u8]) -> Result<usize, PortError> {
        let Some(socket) = self.stream(GuestStream::In) else { return Ok(0) };
        loop {
            socket.writable().await.map_err(failed)?;
            match socket.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_closed(&error) => return Ok(0),
                written => return written.map_err(failed),
            }
        }
    }

    fn end_input(&self) {
        if let Some(socket) = self.stream(GuestStream::In) {
            // Closing it instead would lose what QEMU has not read yet.
            let _ = shutdown(socket, Shutdown::Write);
        }
    }
}

fn failed(error: io::Error) -> PortError {
    if is_missing(&error) { PortError::NotFound } else { PortError::Failed { source: error.into() } }
}

/// Returns whether QEMU closed the port or is gone.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
