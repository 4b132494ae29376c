//! Finds the process of a run by its command line, when nobody wrote its pid down.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use maqet_adapters_linux::process::{boot_id, identity_of, stat_of};
use maqet_domain::vm::{MonitorRole, ProcessIdentity, RunPaths};

/// What the command line of a run holds and no other does.
struct Marks {
    pid_file: Vec<u8>,
    monitor: Vec<u8>,
}

impl Marks {
    fn of(paths: &RunPaths) -> Self {
        let monitor = paths.monitor(MonitorRole::Command);
        Self {
            pid_file: paths.pid_file().as_os_str().as_bytes().to_vec(),
            monitor: [b"path=".as_slice(), &with_commas_doubled(monitor.as_os_str().as_bytes())].concat(),
        }
    }

    /// Returns whether `arguments`, each ended by a NUL, are those of the run.
    ///
    /// The switch before counts too: an editor that has the pid file open is no QEMU.
    fn are_in(&self, arguments: &[u8]) -> bool {
        let words: Vec<&[u8]> = arguments.split(|byte| *byte == 0).collect();
        words.windows(2).any(|pair| match pair[0] {
            b"-pidfile" | b"--pidfile" => pair[1] == self.pid_file,
            b"-chardev" | b"--chardev" => options(pair[1]).any(|option| option == self.monitor),
            _ => false,
        })
    }
}

fn with_commas_doubled(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| if *byte == b',' { b",,".to_vec() } else { vec![*byte] }).collect()
}

/// Splits an argument at its single commas.
pub(crate) fn options(argument: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(argument);
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

/// How much speaks for a process to be the QEMU of a run; a later field decides between those equal in all before.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Likeness {
    /// QEMU wrote its pid down itself.
    pub(crate) is_in_pid_file: bool,
    /// It runs a program named as QEMU's are, and not the shell of a script.
    pub(crate) runs_qemu: bool,
    pub(crate) start_ticks: u64,
    pub(crate) pid: u32,
}

pub(crate) fn runs_qemu(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program.file_name().is_some_and(|name| name.as_bytes().starts_with(b"qemu"))
}

/// Returns the living process of ours that is the QEMU of this run by the pid file that it wrote.
pub(super) fn owner(paths: &RunPaths) -> Option<ProcessIdentity> {
    let pid: u32 = written_in(paths)?;
    let process = PathBuf::from(format!("/proc/{pid}"));
    let is_ours = fs::metadata(&process).ok()?.uid() == rustix::process::geteuid().as_raw();
    let is_it = is_ours && Marks::of(paths).are_in(&fs::read(process.join("cmdline")).ok()?);
    identity_of(pid).filter(|_| is_it)
}

/// Returns the pid that a QEMU wrote down.
fn written_in(paths: &RunPaths) -> Option<u32> {
    fs::read_to_string(paths.pid_file()).ok()?.trim().parse().ok()
}

/// Returns the living process of ours that is the QEMU of this run.
///
/// A program that wraps QEMU has the same words, and was there before it.
pub(super) fn find(paths: &RunPaths) -> Option<ProcessIdentity> {
    let marks = Marks::of(paths);
    let us = rustix::process::geteuid().as_raw();
    let written = written_in(paths);
    let candidates = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let arguments = fs::read(entry.path().join("cmdline")).ok()?;
        if !marks.are_in(&arguments) || entry.metadata().ok()?.uid() != us {
            return None;
        }
        let stat = stat_of(pid)?;
        let is_in_pid_file = written == Some(pid);
        let likeness = Likeness { is_in_pid_file, runs_qemu: runs_qemu(pid), start_ticks: stat.start_ticks, pid };
        stat.is_alive().then_some(likeness)
    });
    let Likeness { start_ticks, pid, .. } = candidates.max()?;
    Some(ProcessIdentity { pid, start_ticks, boot_id: boot_id() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use maqet_domain::vm::BootNumber;

    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], expected: bool) {
        let marks = Marks::of(&RunPaths::new(Path::new("/r/a,b"), Path::new("/s"), BootNumber(1)));

        assert_eq!(marks.are_in(arguments.join("\0").as_bytes()), expected, "{arguments:?}");
    }

    #[test]
    fn test_marks_pid_file_of_the_run_is_recognised() {
        check(&["qemu", "-pidfile", "/r/a,b/b1/qemu.pid"], true);
        check(&["qemu", "-pidfile", "/r/a,b/b1/qemu.pid2"], false);
        check(&["qemu", "-pidfile", "/r/a,b/b11/qemu.pid"], false);
        check(&["vi", "/r/a,b/b1/qemu.pid"], false);
    }

    #[test]
    fn test_marks_monitor_is_recognised_whatever_is_around_it() {
        check(&["q", "-chardev", "socket,id=qmp,path=/r/a,,b/b1/qmp.sock,server=on"], true);
        check(&["q", "-chardev", "socket,path=/r/a,,b/b1/qmp.sock"], true);
        check(&["q", "-chardev", "socket,path=/r/a,,b/b1/qmp.sock,,x"], false);
        check(&["q", "-chardev", "socket,path=/r/a,b/b1/qmp.sock"], false);
        check(&["q", "-chardev", ""], false);
        check(&["q", "-chardev"], false);
        check(&[], false);
    }
}
