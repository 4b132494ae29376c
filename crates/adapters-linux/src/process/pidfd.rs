//! A handle of one process that stays that process's, whoever gets its number later (`pidfd_open(2)`).

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

use crate::readable::Readable;

/// A process held by the kernel's handle of it.
#[derive(Debug)]
pub(crate) struct Pidfd(Readable);

impl Pidfd {
    /// Takes a handle of the process that has `pid` now; `None` if there is none.
    pub(crate) fn open(pid: u32) -> io::Result<Option<Self>> {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => Ok(Some(Self(Readable::watch(pidfd)?))),
            // Of a number that is a thread's and no process's, kernels say EINVAL or ENOENT.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }

    /// Waits until the process ended, whether or not anybody reaps it.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        self.0.woken().await
    }

    /// Blocks until the process ended, at most `patience`; returns whether it did.
    pub(crate) fn block_until_ended(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(self.0.fd(), PollFlags::IN)], timeout.as_ref()) {
                Ok(ready) => return ready > 0,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        pidfd_send_signal(self.0.fd(), signal)
    }

    /// Takes the process from the kernel if it is a dead child of ours.
    pub(crate) fn reap(&self) {
        let _ = waitid(WaitId::PidFd(self.0.fd().as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}
