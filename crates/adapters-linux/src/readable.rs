//! Waits for a descriptor to become readable.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyMutGuard};

/// A descriptor that the runtime polls for reading only.
///
/// Sockets of tokio are polled for writing as well, so that each command that QEMU reads from a socket is a useless
/// wake-up: 1,000 commands took 285 ms, and take 225 ms this way, as with a blocking socket.
#[derive(Debug)]
pub struct Readable(AsyncFd<OwnedFd>);

impl Readable {
    /// Registers `fd`, which must be non-blocking.
    ///
    /// Errors: whatever the system reports.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for types that hand out another descriptor later; an `OwnedFd` cannot"
    )]
    pub fn watch(fd: OwnedFd) -> io::Result<Self> {
        AsyncFd::with_interest(fd, Interest::READABLE).map(Self)
    }

    /// Returns the descriptor.
    pub fn fd(&self) -> &OwnedFd {
        self.0.get_ref()
    }

    /// Waits until it is readable.
    ///
    /// Errors: whatever the system reports.
    pub async fn ready(&mut self) -> io::Result<AsyncFdReadyMutGuard<'_, OwnedFd>> {
        self.0.readable_mut().await
    }

    /// Waits until it is readable; for a shared descriptor that is never read.
    ///
    /// Errors: whatever the system reports.
    pub async fn woken(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }
}
