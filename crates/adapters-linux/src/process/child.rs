//! A child process that does not outlive its owner.

use std::fmt::{self, Display};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::mpsc;
use std::thread;

use process_wrap::std::{ChildWrapper, CommandWrap};
use tokio::runtime::Handle;

use super::pidfd::{Pidfd, ProcessEnd};
use crate::limits::KILL_TIMEOUT;

/// The stack of a thread that only waits.
const STACK_BYTES: usize = 64 << 10;

/// A child process that is killed on drop, unless it exited, was [detached](Self::detach), or
/// [runs to its end](Self::run_to_end).
///
/// Its process group or session is killed with it where the command was given one of its own. A drop sends the signal
/// and does not wait; the process is then reaped in the background.
pub struct ChildGuard {
    child: Box<dyn ChildWrapper>,
    /// `None` once the process was reaped or detached.
    pidfd: Option<Pidfd>,
    runs_to_end: bool,
}

impl ChildGuard {
    /// Starts `command`; on an error no process is left.
    ///
    /// Errors: whatever the system reports.
    pub fn spawn(command: &mut CommandWrap) -> io::Result<Self> {
        Self::guard(command.spawn()?)
    }

    fn guard(mut child: Box<dyn ChildWrapper>) -> io::Result<Self> {
        match Pidfd::open(child.id()).and_then(|pidfd| pidfd.ok_or_else(|| io::ErrorKind::NotFound.into())) {
            Ok(pidfd) => Ok(Self { child, pidfd: Some(pidfd), runs_to_end: false }),
            Err(error) => {
                let _ = child.start_kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Starts `command` from a thread that lives as long as the child: the kernel sends a parent-death signal when the
    /// *thread* ends that started the child (`PR_SET_PDEATHSIG` of prctl(2)), and a thread of a runtime may end early.
    ///
    /// Errors: whatever the system reports.
    pub fn spawn_from_own_thread(mut command: CommandWrap) -> io::Result<Self> {
        let (sender, spawned) = mpsc::channel();
        let start = move || {
            let child = command.spawn();
            // Its files, such as the standard input of the child, are not held longer than the child lives.
            drop(command);
            // Opened before the receiver can reap the child, after which its number means another process.
            let end = child.as_ref().ok().and_then(|child| ProcessEnd::open(child.id()));
            if sender.send(child).is_ok()
                && let Some(end) = end
            {
                end.wait();
            }
        };
        thread::Builder::new().name("qemu-parent".to_owned()).stack_size(STACK_BYTES).spawn(start)?;
        let child = spawned.recv().map_err(|_| io::Error::other("the thread that starts the process has failed"))??;
        Self::guard(child)
    }

    /// Returns its process ID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the child, to take its pipes.
    pub fn inner(&mut self) -> &mut dyn ChildWrapper {
        self.child.as_mut()
    }

    /// Waits for the exit of the child.
    ///
    /// Errors: whatever the system reports.
    pub async fn exited(&self) -> io::Result<()> {
        match &self.pidfd {
            Some(pidfd) => pidfd.exited().await,
            None => Ok(()),
        }
    }

    /// Waits for the exit of the child, then kills the rest of its group.
    ///
    /// Errors: whatever the system reports.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.exited().await?;
        if self.pidfd.is_some() {
            // Before the child is reaped, since the number of its group may be reused afterward.
            let _ = self.child.start_kill();
        }
        self.pidfd = None;
        self.child.wait()
    }

    /// Has the child run to its end, whatever happens here: neither [`Self::kill`] nor a drop kills it.
    pub fn run_to_end(&mut self) {
        self.runs_to_end = true;
    }

    /// Lets the child run on.
    pub fn detach(mut self) {
        self.pidfd = None;
    }

    /// Kills the child and waits until it is gone.
    pub async fn kill(&mut self) {
        let Some(pidfd) = self.pidfd.as_ref().filter(|_| !self.runs_to_end) else { return };
        let _ = self.child.start_kill();
        if tokio::time::timeout(KILL_TIMEOUT, pidfd.exited()).await.is_ok() {
            let _ = self.child.wait();
        }
        self.pidfd = None;
    }
}

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let Some(pidfd) = self.pidfd.take() else { return };
        if !self.runs_to_end {
            let _ = self.child.start_kill();
        }
        // Without a runtime, the kernel reaps it when this process exits.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if pidfd.exited().await.is_ok() {
                    pidfd.reap();
                }
            });
        }
    }
}

/// Formats how a process exited, as in `exit code 1` or `signal 11 (SIGSEGV)`.
pub fn display_status(status: ExitStatus) -> impl Display {
    fmt::from_fn(move |f| match (status.code(), status.signal()) {
        (Some(code), _) => write!(f, "exit code {code}"),
        (None, Some(_)) => f.write_str(&status.to_string().replacen("signal: ", "signal ", 1)),
        (None, None) => write!(f, "{status}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_display_status_names_code_or_signal() {
        assert_eq!(display_status(ExitStatus::from_raw(1 << 8)).to_string(), "exit code 1");
        assert_eq!(display_status(ExitStatus::from_raw(9)).to_string(), "signal 9 (SIGKILL)");
    }
}
