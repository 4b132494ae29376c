//! A handle that refers to one process, whatever happens to its number (`pidfd_open(2)`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

use crate::readable::Readable;

/// A handle of a process.
#[derive(Debug)]
pub(crate) struct Pidfd(Readable);

impl Pidfd {
    /// Opens the process that has `pid` now; `None` if there is none.
    pub(crate) fn open(pid: u32) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => Ok(Some(Self(Readable::watch(pidfd)?))),
            // For the number of a thread that is not a process, kernels report EINVAL or ENOENT.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the exit of the process, whether or not it is reaped.
    pub(crate) async fn exited(&self) -> io::Result<()> {
        self.0.woken().await
    }

    pub(crate) fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        pidfd_send_signal(self.0.fd(), signal)
    }

    /// Reaps the process if it is a child of this one and exited.
    pub(crate) fn reap(&self) {
        let _ = waitid(WaitId::PidFd(self.0.fd().as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

/// The end of a process, for a thread that does nothing else than wait for it.
#[derive(Debug)]
pub(crate) struct ProcessEnd(OwnedFd);

impl ProcessEnd {
    /// Opens the process that has `pid` now; `None` if that cannot be done.
    pub(crate) fn open(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// Blocks until the process has exited, whether or not it is reaped.
    pub(crate) fn wait(&self) {
        while poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None) == Err(Errno::INTR) {}
    }
}
