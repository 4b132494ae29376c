//! The port [`Processes`] on Linux: pidfds and `/proc`.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use maqet_domain::port::{Freeze, ProcessError, Processes, Signal};
use maqet_domain::vm::ProcessIdentity;
use rustix::fs::{major, minor};
use rustix::io::Errno;

use super::cgroup::Freezers;
use super::identity::Stat;
use super::pidfd::Pidfd;
use super::{PidScope, command_line, proc_file};

/// The processes of this kernel.
///
/// A dead child of this process is reaped when it is observed, so that a long-running program that starts VMs collects
/// no zombies.
#[derive(Debug, Default)]
pub struct LinuxProcesses {
    scope: OnceLock<PidScope>,
    freezers: OnceLock<Freezers>,
}

impl LinuxProcesses {
    /// Creates it; nothing is read yet.
    pub const fn new() -> Self {
        Self { scope: OnceLock::new(), freezers: OnceLock::new() }
    }

    fn scope(&self) -> &PidScope {
        self.scope.get_or_init(PidScope::current)
    }

    /// Opens exactly this process; `None` if it is gone.
    ///
    /// The handle is opened before the comparison, so that it refers to the process that was compared.
    fn open(&self, process: &ProcessIdentity) -> io::Result<Option<Pidfd>> {
        if !self.scope().contains(process) {
            return Ok(None);
        }
        let Some(pidfd) = Pidfd::open(process.pid)? else {
            return Ok(None);
        };
        if self.scope().is_alive(process) {
            return Ok(Some(pidfd));
        }
        if self.stat(process).is_some() {
            pidfd.reap();
        }
        Ok(None)
    }

    /// Returns whether a process of this boot may be alive without being visible here.
    fn is_hidden(&self, process: &ProcessIdentity) -> bool {
        process.boot_id == *self.scope().boot_id() && !self.scope().contains(process)
    }

    /// Reads the state of exactly this process, alive or dead.
    pub(super) fn stat(&self, process: &ProcessIdentity) -> Option<Stat> {
        self.scope().stat(process)
    }
}

#[async_trait]
impl Processes for LinuxProcesses {
    fn is_alive(&self, process: &ProcessIdentity) -> bool {
        let is_alive = self.scope().is_alive(process);
        if !is_alive {
            self.scope().reap(process);
        }
        is_alive
    }

    fn frozen(&self, process: &ProcessIdentity) -> Option<Freeze> {
        if self.stat(process)?.is_frozen() {
            return Some(Freeze::Signal);
        }
        self.freezers.get_or_init(Freezers::mounted).frozen(process.pid).map(Freeze::Cgroup)
    }

    fn is_exiting(&self, process: &ProcessIdentity) -> bool {
        self.stat(process).is_some_and(Stat::is_ending)
    }

    fn is_in_foreground(&self, process: &ProcessIdentity) -> bool {
        let status = proc_file::read_text(format!("/proc/{}/status", process.pid)).unwrap_or_default();
        blocks_sigterm(&status)
    }

    fn maps_file(&self, process: &ProcessIdentity, path: &Path) -> bool {
        let Ok(file) = path.metadata() else { return false };
        let maps = proc_file::read(format!("/proc/{}/maps", process.pid)).unwrap_or_default();
        String::from_utf8_lossy(&maps).lines().any(|line| is_mapping_of(line, (file.dev(), file.ino())))
    }

    fn args(&self, process: &ProcessIdentity) -> Vec<String> {
        let line = command_line(process.pid);
        // Checked afterward, since another process may have had the pid before.
        if !self.scope().is_alive(process) {
            return Vec::new();
        }
        let arguments = line.split_inclusive(|byte| *byte == 0);
        arguments
            .map(|argument| argument.strip_suffix(b"\0").unwrap_or(argument))
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect()
    }

    fn is_from_this_boot(&self, process: &ProcessIdentity) -> bool {
        process.boot_id == *self.scope().boot_id()
    }

    async fn signal(&self, process: &ProcessIdentity, signal: Signal) -> Result<(), ProcessError> {
        let failed = |error: io::Error| ProcessError::Failed { process: process.clone(), source: error.into() };
        if self.is_hidden(process) {
            return Err(ProcessError::OtherNamespace);
        }
        let Some(pidfd) = self.open(process).map_err(failed)? else {
            return Ok(());
        };
        let signal = match signal {
            Signal::Term => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        match pidfd.signal(signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(Errno::PERM) => Err(ProcessError::NotPermitted { process: process.clone() }),
            Err(error) => Err(failed(error.into())),
        }
    }

    async fn wait_for_exit(&self, process: &ProcessIdentity, patience: Duration) -> bool {
        if self.is_hidden(process) {
            return false;
        }
        let pidfd = match self.open(process) {
            Ok(Some(pidfd)) => pidfd,
            Ok(None) => return true,
            Err(_) => return !self.is_alive(process),
        };
        match tokio::time::timeout(patience, pidfd.exited()).await {
            Ok(_) => {
                pidfd.reap();
                true
            }
            Err(_) => false,
        }
    }
}
/// Returns whether SIGTERM is blocked, by `/proc/PID/status` (proc(5)).
fn blocks_sigterm(status: &str) -> bool {
    const SIGTERM_BIT: u64 = 1 << 14;
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & SIGTERM_BIT != 0)
}

/// Returns whether a line of `/proc/PID/maps` is about the file with this device and inode (proc(5)).
fn is_mapping_of(line: &str, (device, inode): (u64, u64)) -> bool {
    let mut fields = line.split_ascii_whitespace().skip(3);
    let (found, number) = (fields.next(), fields.next());
    let expected = format!("{:02x}:{:02x}", major(device), minor(device));
    found == Some(expected.as_str()) && number.and_then(|number| number.parse().ok()) == Some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_blocks_sigterm_is_that_bit_of_the_mask() {
        let blocks = |mask: &str| blocks_sigterm(&format!("Name:\tqemu\nSigPnd:\tffffffffffffffff\nSigBlk:\t{mask}\n"));

        assert!(blocks("0000000000004a03") && blocks("0000000000004000"));
        assert!(!blocks("0000000000000a03") && !blocks("ffffffffffffbfff") && !blocks("") && !blocks_sigterm(""));
    }

    #[test]
    fn test_is_mapping_of_compares_device_and_inode() {
        let line = "7f00-7f01 rw-s 00000000 00:2c 4711                       /dev/shm/web.ram";
        let device = rustix::fs::makedev(0, 0x2c);

        assert!(is_mapping_of(line, (device, 4711)));
        assert!(!is_mapping_of(line, (device, 471)) && !is_mapping_of(line, (rustix::fs::makedev(0, 0x2d), 4711)));
        assert!(!is_mapping_of("7f00-7f01 rw-p 00000000 00:00 0", (device, 4711)));
    }

    #[test]
    fn test_maps_file_of_this_process_is_its_program() {
        let processes = LinuxProcesses::new();
        let this = PidScope::current().identify(std::process::id()).unwrap();
        let program = std::env::current_exe().unwrap();
        let other = tempfile::NamedTempFile::new().unwrap();

        assert!(processes.maps_file(&this, &program));
        assert!(!processes.maps_file(&this, other.path()) && !processes.maps_file(&this, "/nonexistent".as_ref()));
        assert!(!processes.is_in_foreground(&this));
    }
}
