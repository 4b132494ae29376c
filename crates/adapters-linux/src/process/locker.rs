//! Who holds a lock of the kernel on a file: told by the open files of every process.

use std::fs::{self, DirEntry, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A kind of lock, by the kernel's word for it (proc(5), `/proc/locks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// `flock(2)`: our own locks.
    Flock,
    /// Of an open file (`F_OFD_SETLK`, fcntl(2)): QEMU's locks on its images.
    OpenFile,
}

impl LockKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Flock => "FLOCK",
            Self::OpenFile => "OFDLCK",
        }
    }
}

/// Returns a process, other than this one, that holds a lock on `file`; only those of our user are seen, unless we are
/// root.
///
/// It reads what every process has open, so it is for when a lock is in the way and its holder is not known otherwise.
pub fn locker_of(file: &Metadata, kind: LockKind) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| *pid != std::process::id() && holds(*pid, file, kind))
}

/// Returns the name of a process (`/proc/PID/comm`).
pub fn name_of_process(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned())
}

fn holds(pid: u32, file: &Metadata, kind: LockKind) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let opened = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let is_it = |open: &DirEntry| {
        let found = fs::metadata(open.path());
        found.is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
    };
    opened.filter(is_it).any(|open| {
        let told = fs::read_to_string(process.join("fdinfo").join(open.file_name())).unwrap_or_default();
        told.lines().any(|line| is_lock(line, kind))
    })
}

/// Reads a line as `lock: 1: FLOCK  ADVISORY  WRITE 4711 08:02:131130 0 EOF`: a lock held through that open file, by
/// whichever process it was taken.
fn is_lock(line: &str, kind: LockKind) -> bool {
    let mut words = line.split_ascii_whitespace();
    words.next() == Some("lock:") && words.nth(1) == Some(kind.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_is_lock_tells_the_kinds_apart() {
        let flock = "lock:\t1: FLOCK  ADVISORY  WRITE 4711 08:02:131130 0 EOF";
        let open_file = "lock:\t2: OFDLCK ADVISORY  READ -1 08:02:131130 100 100";

        assert!(is_lock(flock, LockKind::Flock) && !is_lock(flock, LockKind::OpenFile));
        assert!(is_lock(open_file, LockKind::OpenFile) && !is_lock(open_file, LockKind::Flock));
        assert!(!is_lock("pos:\t0", LockKind::Flock));
        assert!(!is_lock("", LockKind::Flock));
    }

    #[test]
    fn test_locker_of_a_file_that_a_child_was_given_is_that_child() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = file.as_file().metadata().unwrap();
        file.as_file().lock().unwrap();
        assert_eq!(locker_of(&found, LockKind::Flock), None, "we do not count");

        let given = file.as_file().try_clone().unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").stdin(given).spawn().unwrap();
        let locker = locker_of(&found, LockKind::Flock);
        let name = name_of_process(child.id());
        child.kill().unwrap();
        child.wait().unwrap();

        assert_eq!(locker, Some(child.id()));
        assert_eq!(name.as_deref(), Some("sleep"));
        assert_eq!(locker_of(&found, LockKind::Flock), None);
    }
}
