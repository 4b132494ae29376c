//! The process that holds a kernel lock on a file, found in the open files of all processes.

use std::fs::{self, DirEntry, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::PidScope;
use super::identity::read_stat;

/// A kind of lock (proc(5), `/proc/locks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// `flock(2)`: the locks of maqet.
    Flock,
    /// On an open file description (`F_OFD_SETLK`, fcntl(2)): QEMU's locks on images.
    OpenFile,
}

impl LockKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Flock => "FLOCK",
            Self::OpenFile => "OFDLCK",
        }
    }
}

/// Returns a process other than this one that holds a lock on `file`; without root, only processes of the same user are
/// found.
///
/// Slow: it reads the open files of all processes.
pub fn find_locker(file: &Metadata, kind: LockKind) -> Option<u32> {
    lockers(file, kind).next()
}

/// Returns all of them: several processes that share an open file share its lock.
pub fn lockers(file: &Metadata, kind: LockKind) -> impl Iterator<Item = u32> {
    lockers_with_own(file, kind).filter(|pid| *pid != std::process::id())
}

/// Returns all of them, and this process if it holds a lock, too.
pub fn lockers_with_own(file: &Metadata, kind: LockKind) -> impl Iterator<Item = u32> {
    PidScope::current().pids().filter(move |pid| holds(*pid, file, kind))
}

/// Reads the name of a process (`/proc/PID/comm`).
pub fn process_name(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_owned())
}

fn holds(pid: u32, file: &Metadata, kind: LockKind) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    if has_locked(&process, file, kind) {
        return true;
    }
    // The main thread of a process that is being killed can be gone before the others, which still have its files.
    let is_main_thread_gone = read_stat(pid).is_some_and(|stat| stat.state == b'Z');
    let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    is_main_thread_gone && threads.into_iter().any(|thread| has_locked(&thread.path(), file, kind))
}

/// Returns whether a process or a thread, a directory of `/proc`, has the file open and a lock through it.
fn has_locked(process: &Path, file: &Metadata, kind: LockKind) -> bool {
    let opened = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let is_it = |open: &DirEntry| {
        let found = fs::metadata(open.path());
        found.is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
    };
    opened.filter(is_it).any(|open| {
        let info = fs::read_to_string(process.join("fdinfo").join(open.file_name())).unwrap_or_default();
        info.lines().any(|line| is_lock(line, kind))
    })
}

/// Parses a line like `lock: 1: FLOCK  ADVISORY  WRITE 4711 08:02:131130 0 EOF`: a lock held through that open file,
/// whichever process took it.
fn is_lock(line: &str, kind: LockKind) -> bool {
    let mut fields = line.split_ascii_whitespace();
    fields.next() == Some("lock:") && fields.nth(1) == Some(kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_is_lock_distinguishes_kinds() {
        let flock = "lock:\t1: FLOCK  ADVISORY  WRITE 4711 08:02:131130 0 EOF";
        let open_file = "lock:\t2: OFDLCK ADVISORY  READ -1 08:02:131130 100 100";

        assert!(is_lock(flock, LockKind::Flock) && !is_lock(flock, LockKind::OpenFile));
        assert!(is_lock(open_file, LockKind::OpenFile) && !is_lock(open_file, LockKind::Flock));
        assert!(!is_lock("pos:\t0", LockKind::Flock));
        assert!(!is_lock("", LockKind::Flock));
    }

    /// A process whose main thread ends before another one.
    const WITHOUT_MAIN_THREAD: &str = "#include <pthread.h>\n#include <unistd.h>\n\
        static void *rest(void *unused) { for (;;) pause(); return unused; }\n\
        int main(void) { pthread_t other; pthread_create(&other, 0, rest, 0); pthread_exit(0); }\n";

    #[test]
    fn test_find_locker_process_without_its_main_thread_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (source, program) = (folder.path().join("a.c"), folder.path().join("a"));
        fs::write(&source, WITHOUT_MAIN_THREAD).unwrap();
        let compiled = std::process::Command::new("cc").arg("-pthread").arg(&source).arg("-o").arg(&program).status();
        assert!(compiled.unwrap().success());
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = file.as_file().metadata().unwrap();
        file.as_file().lock().unwrap();

        let given = file.as_file().try_clone().unwrap();
        let mut child = std::process::Command::new(&program).stdin(given).spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
        while read_stat(child.id()).is_none_or(|stat| stat.state != b'Z') {
            assert!(std::time::Instant::now() < deadline, "the main thread does not end");
            std::thread::yield_now();
        }
        let locker = find_locker(&found, LockKind::Flock);
        child.kill().unwrap();
        child.wait().unwrap();

        assert_eq!(locker, Some(child.id()));
        assert_eq!(find_locker(&found, LockKind::Flock), None);
    }

    #[test]
    fn test_find_locker_child_with_inherited_file_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = file.as_file().metadata().unwrap();
        file.as_file().lock().unwrap();
        assert_eq!(find_locker(&found, LockKind::Flock), None, "this process does not count");

        let given = file.as_file().try_clone().unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").stdin(given).spawn().unwrap();
        let locker = find_locker(&found, LockKind::Flock);
        let name = process_name(child.id());
        child.kill().unwrap();
        child.wait().unwrap();

        assert_eq!(locker, Some(child.id()));
        assert_eq!(name.as_deref(), Some("sleep"));
        assert_eq!(find_locker(&found, LockKind::Flock), None);
    }
}
