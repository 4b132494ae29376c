//! Finds the QEMU process of a run by its command line, for when its process ID was not stored.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use maqet_adapters_linux::process::{PidScope, command_line, is_own};
use maqet_domain::vm::{MonitorRole, ProcessIdentity, RunPaths};

use super::run_lock::pid_file_owner;

/// The options that only the command line of one run has.
struct RunOptions {
    pid_file: Vec<u8>,
    monitor: Vec<u8>,
}

impl RunOptions {
    fn new(paths: &RunPaths) -> Self {
        let monitor = paths.monitor(MonitorRole::Command);
        Self {
            pid_file: paths.pid_file().as_os_str().as_bytes().to_vec(),
            monitor: [b"path=".as_slice(), &with_commas_doubled(monitor.as_os_str().as_bytes())].concat(),
        }
    }

    /// Returns whether a command line, whose arguments are terminated by NUL, is that of the run.
    ///
    /// The option name is compared too: an editor that has the pid file open is not QEMU.
    fn match_command_line(&self, command_line: &[u8]) -> bool {
        let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
        arguments.windows(2).any(|pair| match pair[0] {
            b"-pidfile" | b"--pidfile" => pair[1] == self.pid_file,
            b"-chardev" | b"--chardev" => options(pair[1]).any(|option| option == self.monitor),
            _ => false,
        })
    }
}

fn with_commas_doubled(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| if *byte == b',' { b",,".to_vec() } else { vec![*byte] }).collect()
}

/// Splits the value of an option at its single commas.
pub(crate) fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut end = 0;
        while end < text.len() {
            match (text[end], text.get(end + 1)) {
                (b',', Some(b',')) => end += 2,
                (b',', _) => break,
                _ => end += 1,
            }
        }
        rest = text.get(end + 1..);
        Some(&text[..end.min(text.len())])
    })
}

/// A process with the command line of a run: QEMU, or a program that wraps it.
///
/// The greatest is QEMU: each field decides between those with equal fields before it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    is_in_pid_file: bool,
    /// Whether the name of its program is that of a QEMU binary, and not that of a shell.
    runs_qemu: bool,
    start_ticks: u64,
    pid: u32,
}

impl Candidate {
    /// Inspects a process with the command line of the run; `None` if it is dead or belongs to another user.
    pub(crate) fn new(pid: u32, paths: &RunPaths, scope: &PidScope) -> Option<Self> {
        let stat = scope.stat_of(pid).filter(|stat| stat.is_alive() && is_own(pid))?;
        let is_in_pid_file = pid_in_file(paths) == Some(pid);
        Some(Self { is_in_pid_file, runs_qemu: runs_qemu(pid), start_ticks: stat.start_ticks, pid })
    }

    pub(crate) fn identity(&self, scope: &PidScope) -> ProcessIdentity {
        scope.identity(self.pid, self.start_ticks)
    }
}

pub(super) fn runs_qemu(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    // As in `.qemu-system-x86_64-wrapped`.
    program.file_name().is_some_and(|name| name.as_bytes().windows(4).any(|part| part == b"qemu"))
}

/// Returns the process of the pid file of a run, if it is QEMU, alive and visible.
pub(super) fn process_in_pid_file(paths: &RunPaths) -> Option<ProcessIdentity> {
    let pid = pid_in_file(paths)?;
    let is_qemu = is_own(pid) && RunOptions::new(paths).match_command_line(&command_line(pid));
    PidScope::current().identify(pid).filter(|_| is_qemu)
}

/// Returns the ID of the process that wrote the pid file.
///
/// QEMU writes the ID that it has in its own PID namespace; the lock that it holds on the file tells the one here.
fn pid_in_file(paths: &RunPaths) -> Option<u32> {
    pid_file_owner(paths).or_else(|| fs::read_to_string(paths.pid_file()).ok()?.trim().parse().ok())
}

/// Returns the QEMU process of a run, if it is alive.
pub(super) fn find_process(paths: &RunPaths) -> Option<ProcessIdentity> {
    let options = RunOptions::new(paths);
    let scope = PidScope::current();
    let candidates = scope.pids().filter(|pid| options.match_command_line(&command_line(*pid)));
    let qemu = candidates.filter_map(|pid| Candidate::new(pid, paths, &scope)).max()?;
    Some(qemu.identity(&scope))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use maqet_domain::vm::BootNumber;

    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], expected: bool) {
        let options = RunOptions::new(&RunPaths::new(Path::new("/r/a,b"), Path::new("/s"), BootNumber(1)));

        assert_eq!(options.match_command_line(arguments.join("\0").as_bytes()), expected, "{arguments:?}");
    }

    #[test]
    fn test_run_options_pid_file_of_run_is_recognised() {
        check(&["qemu", "-pidfile", "/r/a,b/b1/qemu.pid"], true);
        check(&["qemu", "-pidfile", "/r/a,b/b1/qemu.pid2"], false);
        check(&["qemu", "-pidfile", "/r/a,b/b11/qemu.pid"], false);
        check(&["vi", "/r/a,b/b1/qemu.pid"], false);
    }

    #[test]
    fn test_run_options_monitor_is_recognised_among_options() {
        check(&["q", "-chardev", "socket,id=qmp,path=/r/a,,b/b1/qmp.sock,server=on"], true);
        check(&["q", "-chardev", "socket,path=/r/a,,b/b1/qmp.sock"], true);
        check(&["q", "-chardev", "socket,path=/r/a,,b/b1/qmp.sock,,x"], false);
        check(&["q", "-chardev", "socket,path=/r/a,b/b1/qmp.sock"], false);
        check(&["q", "-chardev", ""], false);
        check(&["q", "-chardev"], false);
        check(&[], false);
    }
}
