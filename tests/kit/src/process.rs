//! Processes of a directory: found by their command line, ended through a pidfd.
//!
//! Nothing here signals by name, nor by a number that was not checked right before: the pidfd is opened first,
//! then the command line is read again, and only then the signal is sent.

use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use crate::wait;

/// How long a killed process may take to end; QEMU takes longer only if its disk does.
const KILL_GRACE: Duration = Duration::from_mins(1);

/// A living process whose command line names a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The process id.
    pub pid: i32,
    /// The command line, its arguments separated by single spaces.
    pub command: String,
}

impl Found {
    /// Returns whether the program is a QEMU system emulator.
    #[must_use]
    pub fn is_qemu(&self) -> bool {
        let program = self.command.split(' ').next().unwrap_or_default();
        Path::new(program).file_name().is_some_and(|name| name.as_bytes().starts_with(b"qemu-system"))
    }
}

/// Returns the living processes, other than this one, whose command line names `folder` or something in it.
///
/// Zombies do not count: they are dead, and on some machines stay in the list for seconds.
#[must_use]
pub fn naming(folder: &Path) -> Vec<Found> {
    living().filter(|pid| !is_self(*pid)).filter_map(|pid| found(pid, folder)).collect()
}

/// Returns the living processes that were started with a `HOME` in `folder`, whatever their command line says.
#[must_use]
pub fn at_home_in(folder: &Path) -> Vec<Found> {
    let home = [b"HOME=", folder.as_os_str().as_bytes(), b"/"].concat();

    living()
        .filter(|pid| !is_self(*pid))
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one.starts_with(&home)))
        })
        .filter_map(|pid| command_line(pid).map(|raw| Found { pid, command: readable(&raw) }))
        .collect()
}

/// Returns whether a process handles a signal, given its number.
///
/// A program that just started has no handler yet, and an early signal ends it.
#[must_use]
pub fn catches(pid: u32, signal: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & (1 << (signal - 1)) != 0
}

/// Stops a process as SIGSTOP does, and waits until all of its threads are stopped.
///
/// A thread that has the CPU, or waits for it, stops only once it runs again.
///
/// # Panics
///
/// If it does not stop, or does not exist.
#[track_caller]
pub fn suspend(pid: u32) {
    kill_process(raw(pid), Signal::STOP).expect("the process exists");
    until_suspended(pid);
}

/// Waits until a process that stops itself is stopped.
///
/// # Panics
///
/// If it does not stop.
#[track_caller]
pub fn until_suspended(pid: u32) {
    let stands = |task: DirEntry| fs::read(task.path().join("stat")).is_ok_and(|stat| state(&stat) == Some(b'T'));
    wait::until(wait::LONG, "all threads of the process to be stopped", || {
        fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten().all(stands).then_some(())
    });
}

/// Lets a process go on that was stopped.
///
/// # Panics
///
/// If it does not exist.
#[track_caller]
pub fn resume(pid: u32) {
    kill_process(raw(pid), Signal::CONT).expect("the process exists");
}

/// Kills a process, and waits until all of its threads are gone, with their files and locks.
///
/// # Panics
///
/// If it does not exist, or does not end.
#[track_caller]
pub fn end(pid: u32) {
    let handle = pidfd_open(raw(pid), PidfdFlags::empty()).expect("the process exists");
    pidfd_send_signal(&handle, Signal::KILL).expect("the process is ours");
    let grace = Timespec::try_from(KILL_GRACE).ok();
    let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], grace.as_ref());
    assert_eq!(ended, Ok(1), "process {pid} does not end");
}

fn raw(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("it is the number of a process")
}

/// Kills every process that [`naming`] finds, waits for their end, and returns them.
///
/// Repeats until nothing is found, because a process that is being started may appear late.
pub fn kill_naming(folder: &Path) -> Vec<Found> {
    let mut killed = Vec::new();
    for _ in 0..20 {
        let round = naming(folder);
        if round.is_empty() {
            break;
        }
        for process in round {
            kill(&process, folder);
            killed.push(process);
        }
    }
    killed
}

fn kill(process: &Found, folder: &Path) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    // The pid may have been recycled since the search; the pidfd stays with its process.
    if found(process.pid, folder).is_none() || pidfd_send_signal(&handle, Signal::KILL).is_err() {
        return;
    }
    let grace = Timespec::try_from(KILL_GRACE).ok();
    let _ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], grace.as_ref());
}

fn living() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn is_self(pid: i32) -> bool {
    u32::try_from(pid).is_ok_and(|pid| pid == std::process::id())
}

fn found(pid: i32, folder: &Path) -> Option<Found> {
    let raw = command_line(pid)?;
    names(&raw, folder.as_os_str()).then(|| Found { pid, command: readable(&raw) })
}

fn command_line(pid: i32) -> Option<Vec<u8>> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    if matches!(state(&stat), None | Some(b'Z' | b'X')) {
        return None;
    }
    fs::read(format!("/proc/{pid}/cmdline")).ok()
}

/// Returns the state letter in `/proc/PID/stat`: it follows the name in parentheses, which may itself contain parentheses
/// and spaces.
fn state(stat: &[u8]) -> Option<u8> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(after_name + 2).copied()
}

fn readable(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).trim_end_matches('\0').replace('\0', " ")
}

/// Returns whether `raw` holds `folder` as a whole name: `/tmp/ab` is not named by `/tmp/abc`.
fn names(raw: &[u8], folder: &OsStr) -> bool {
    let folder = folder.as_bytes();
    raw.windows(folder.len()).enumerate().any(|(at, window)| {
        let next = raw.get(at + folder.len());
        window == folder && !next.is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: bool) {
        assert_eq!(names(raw.as_bytes(), OsStr::new("/tmp/mqab")), expected, "{raw}");
    }

    #[test]
    fn test_naming_folder_inside_option_matches() {
        check("qemu\0-drive\0file=/tmp/mqab/d,if=ide", true);
    }

    #[test]
    fn test_naming_folder_at_end_matches() {
        check("ls\0/tmp/mqab", true);
    }

    #[test]
    fn test_naming_longer_folder_does_not_match() {
        check("ls\0/tmp/mqabc/x", false);
    }

    #[test]
    fn test_naming_empty_command_line_does_not_match() {
        check("", false);
    }

    #[test]
    fn test_process_suspended_stands_still_until_it_is_resumed() {
        let mut sleeper = Command::new("sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        let state_of = |child: &std::process::Child| state(&fs::read(format!("/proc/{}/stat", child.id())).unwrap());

        suspend(sleeper.id());
        let suspended = state_of(&sleeper);
        resume(sleeper.id());
        wait::until(wait::LONG, "it to go on", || (state_of(&sleeper) != Some(b'T')).then_some(()));
        end(sleeper.id());

        assert_eq!((suspended, state_of(&sleeper)), (Some(b'T'), Some(b'Z')));
        sleeper.wait().unwrap();
    }

    #[test]
    fn test_kill_naming_sleeping_process_ends_only_it() {
        let folder = tempfile::tempdir().unwrap();
        let sleeper = |first: &Path| {
            Command::new("sh").args(["-c", "read line", "sh"]).arg(first).stdin(Stdio::piped()).spawn().unwrap()
        };
        let mut ours = sleeper(&folder.path().join("x"));
        let mut other = sleeper(Path::new("/nowhere"));

        let killed = kill_naming(folder.path());

        assert_eq!(killed.iter().map(|one| one.pid.cast_unsigned()).collect::<Vec<_>>(), [ours.id()]);
        assert!(naming(folder.path()).is_empty());
        assert!(!ours.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        drop(other.stdin.take());
        other.wait().unwrap();
    }
}
