//! The socket of a monitor: connect, send and receive, never waiting but where it says so.

use std::io;
use std::path::Path;

use maqet_adapters_linux::Readable;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with};

use crate::limits::CONNECT_RETRY_INTERVAL;

/// A connection to a monitor.
#[derive(Debug)]
pub(super) struct Wire(Readable);

impl Wire {
    /// Connects; waits only while the socket's queue of callers is full.
    pub(super) async fn connect(socket: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(socket)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        while let Err(why) = connect(&fd, &address) {
            match why {
                Errno::AGAIN => tokio::time::sleep(CONNECT_RETRY_INTERVAL).await,
                Errno::INTR => {}
                _ => return Err(why.into()),
            }
        }
        Readable::watch(fd).map(Self)
    }

    /// Returns the process that listens at the socket, as far as this one can see it.
    pub(super) fn peer(&self) -> Option<u32> {
        // Of a listener in a pid namespace we do not see, the kernel tells the pid 0, which rustix cannot hold.
        let socket = std::os::unix::net::UnixStream::from(self.0.fd().try_clone().ok()?);
        let peer = tokio::net::UnixStream::from_std(socket).and_then(|socket| socket.peer_cred()).ok()?;
        u32::try_from(peer.pid()?).ok().filter(|pid| *pid != 0)
    }

    /// Sends the beginning of `bytes` and returns how much; waits while the other side takes nothing.
    pub(super) async fn send_some(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match send(self.0.fd(), bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => return Ok(sent),
                // Only a command of more than some 100 KB gets here.
                Err(Errno::AGAIN) => tokio::time::sleep(CONNECT_RETRY_INTERVAL).await,
                Err(Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Adds what arrives to `buffer`, at most as much as has room in it; returns how much, 0 at the end.
    pub(super) async fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            let mut ready = self.0.ready().await?;
            let room = buffer.capacity() - buffer.len();
            match rustix::io::read(ready.get_inner(), spare_capacity(buffer)) {
                Ok(received) => {
                    // Less than there was room for is all there was.
                    if received < room {
                        ready.clear_ready();
                    }
                    return Ok(received);
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(why) => return Err(why.into()),
            }
        }
    }
}
