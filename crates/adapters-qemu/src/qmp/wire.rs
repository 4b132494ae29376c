//! The socket of a monitor: connect, send and receive.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use maqet_adapters_linux::Readable;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    connect, send, sendmsg, socket_with,
};

use crate::limits::CONNECT_RETRY_INTERVAL;

/// A connection to a monitor.
#[derive(Debug)]
pub(super) struct Wire(Readable);

impl Wire {
    /// Connects; waits while the backlog of the socket is full.
    pub(super) async fn connect(socket: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(socket)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        while let Err(error) = connect(&fd, &address) {
            match error {
                Errno::AGAIN => tokio::time::sleep(CONNECT_RETRY_INTERVAL).await,
                Errno::INTR => {}
                _ => return Err(error.into()),
            }
        }
        Readable::watch(fd).map(Self)
    }

    /// Returns the process that listens at the socket, if it is visible.
    pub(super) fn peer(&self) -> Option<u32> {
        // For a listener in another pid namespace the kernel returns pid 0, which rustix cannot represent.
        let socket = std::os::unix::net::UnixStream::from(self.0.fd().try_clone().ok()?);
        let peer = tokio::net::UnixStream::from_std(socket).and_then(|socket| socket.peer_cred()).ok()?;
        u32::try_from(peer.pid()?).ok().filter(|pid| *pid != 0)
    }

    /// Sends the beginning of `bytes` and returns its length; waits while the buffer of the socket is full.
    pub(super) async fn send_some(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match send(self.0.fd(), bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => return Ok(sent),
                // Only with a command of more than about 100 KB.
                Err(Errno::AGAIN) => tokio::time::sleep(CONNECT_RETRY_INTERVAL).await,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Does the same, and passes a descriptor with the first byte.
    pub(super) async fn send_some_with(&self, bytes: &[u8], file: &OwnedFd) -> io::Result<usize> {
        loop {
            let files = [file.as_fd()];
            let sent = {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !control.push(SendAncillaryMessage::ScmRights(&files)) {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                sendmsg(self.0.fd(), &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
            };
            match sent {
                Ok(sent) => return Ok(sent),
                Err(Errno::AGAIN) => tokio::time::sleep(CONNECT_RETRY_INTERVAL).await,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives into the free capacity of `buffer`; returns the number of bytes, 0 at the end.
    pub(super) async fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            let mut ready = self.0.ready().await?;
            let room = buffer.capacity() - buffer.len();
            match rustix::io::read(ready.get_inner(), spare_capacity(buffer)) {
                Ok(received) => {
                    // There is no more for now.
                    if received < room {
                        ready.clear_ready();
                    }
                    return Ok(received);
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
