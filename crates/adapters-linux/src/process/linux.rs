//! The port [`Processes`] on Linux: pidfds and `/proc`.

use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, io};

use async_trait::async_trait;
use maqet_domain::port::{ProcessError, Processes, Signal};
use maqet_domain::vm::{BootId, ProcessIdentity};
use rustix::io::Errno;

use super::pidfd::Pidfd;
use super::{boot_id, is_alive, reap, stat_of};

/// Knows the processes of this kernel.
///
/// A process that ended and was never waited for is reaped in passing where it is a child of ours, so that a
/// long-running program that starts VMs gathers no zombies.
#[derive(Debug, Default)]
pub struct LinuxProcesses {
    boot: OnceLock<BootId>,
}

impl LinuxProcesses {
    /// Makes one; it looks at nothing yet.
    pub const fn new() -> Self {
        Self { boot: OnceLock::new() }
    }

    pub(super) fn boot(&self) -> &BootId {
        self.boot.get_or_init(boot_id)
    }

    /// Returns a handle of exactly this process, or `None` if it is gone.
    ///
    /// The handle comes first and the comparison second: what was compared is then what the handle holds.
    fn hold(&self, process: &ProcessIdentity) -> io::Result<Option<Pidfd>> {
        let Some(pidfd) = Pidfd::open(process.pid)? else {
            return Ok(None);
        };
        if is_alive(process, self.boot()) {
            return Ok(Some(pidfd));
        }
        if stat_of(process.pid).is_some_and(|stat| stat.start_ticks == process.start_ticks) {
            pidfd.reap();
        }
        Ok(None)
    }
}

#[async_trait]
impl Processes for LinuxProcesses {
    fn is_alive(&self, process: &ProcessIdentity) -> bool {
        let lives = is_alive(process, self.boot());
        if !lives {
            reap(process, self.boot());
        }
        lives
    }

    fn is_frozen(&self, process: &ProcessIdentity) -> bool {
        process.boot_id == *self.boot()
            && stat_of(process.pid).is_some_and(|stat| stat.is_frozen() && stat.start_ticks == process.start_ticks)
    }

    fn is_ending(&self, process: &ProcessIdentity) -> bool {
        process.boot_id == *self.boot()
            && stat_of(process.pid).is_some_and(|stat| stat.is_ending() && stat.start_ticks == process.start_ticks)
    }

    fn words(&self, process: &ProcessIdentity) -> Vec<String> {
        let words = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        // Looked at afterwards: another process may have got the pid before.
        if !is_alive(process, self.boot()) {
            return Vec::new();
        }
        // Each ends with a null byte.
        words
            .split_inclusive(|byte| *byte == 0)
            .map(|word| word.strip_suffix(b"\0").unwrap_or(word))
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    }

    fn is_of_this_boot(&self, process: &ProcessIdentity) -> bool {
        process.boot_id == *self.boot()
    }

    async fn signal(&self, process: &ProcessIdentity, signal: Signal) -> Result<(), ProcessError> {
        let failed = |why: io::Error| ProcessError::Failed { process: process.clone(), source: why.into() };
        let Some(pidfd) = self.hold(process).map_err(failed)? else {
            return Ok(());
        };
        let signal = match signal {
            Signal::Term => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        match pidfd.signal(signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(Errno::PERM) => Err(ProcessError::NotPermitted { process: process.clone() }),
            Err(why) => Err(failed(why.into())),
        }
    }

    async fn wait_gone(&self, process: &ProcessIdentity, patience: Duration) -> bool {
        let pidfd = match self.hold(process) {
            Ok(Some(pidfd)) => pidfd,
            Ok(None) => return true,
            Err(_) => return !self.is_alive(process),
        };
        match tokio::time::timeout(patience, pidfd.ended()).await {
            Ok(_) => {
                pidfd.reap();
                true
            }
            Err(_) => false,
        }
    }
}
