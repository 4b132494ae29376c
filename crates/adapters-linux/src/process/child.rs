//! A child that does not outlive its owner's interest in it.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use process_wrap::std::{ChildWrapper, CommandWrap};

use super::pidfd::Pidfd;
use crate::limits::KILL_DEADLINE;

/// A child that is killed and reaped when this is dropped, unless it ended or was let go before.
///
/// The whole process group goes with it where the command was given one of its own.
pub struct Leashed {
    child: Box<dyn ChildWrapper>,
    pidfd: Pidfd,
    held: bool,
}

impl Leashed {
    /// Starts `command`; on an error nothing of it runs.
    pub fn spawn(command: &mut CommandWrap) -> io::Result<Self> {
        let mut child = command.spawn()?;
        let pidfd = Pidfd::open(child.id()).and_then(|pidfd| pidfd.ok_or_else(|| io::ErrorKind::NotFound.into()));
        match pidfd {
            Ok(pidfd) => Ok(Self { child, pidfd, held: true }),
            Err(why) => {
                let _ = child.start_kill();
                let _ = child.wait();
                Err(why)
            }
        }
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the child, to take its pipes.
    pub fn child(&mut self) -> &mut dyn ChildWrapper {
        self.child.as_mut()
    }

    /// Waits for the child's own end, and ends what it left behind in its group.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.pidfd.ended().await?;
        // Before the child is reaped, as its group's number could be another's afterwards.
        let _ = self.child.start_kill();
        let status = self.child.wait();
        self.held = false;
        status
    }

    /// Lets the child live on.
    pub fn let_go(mut self) {
        self.held = false;
    }

    /// Kills and reaps the child now.
    pub fn kill(&mut self) {
        if !std::mem::take(&mut self.held) {
            return;
        }
        let _ = self.child.start_kill();
        if self.pidfd.block_until_ended(KILL_DEADLINE) {
            let _ = self.child.wait();
        }
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns how a process ended, as in `exit code 1` or `signal 11 (SIGSEGV)`.
pub fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(_)) => status.to_string().replacen("signal: ", "signal ", 1),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_exit_status_in_words_names_code_or_signal() {
        assert_eq!(in_words(ExitStatus::from_raw(1 << 8)), "exit code 1");
        assert_eq!(in_words(ExitStatus::from_raw(9)), "signal 9 (SIGKILL)");
    }
}
