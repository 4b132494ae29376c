//! Waiting for a condition, with a deadline and a message that names it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything but a boot takes on a busy host: it only bounds a failure.
pub const LONG: Duration = Duration::from_mins(1);

/// Pause between two checks: short compared with a boot, long compared with a check.
const PAUSE: Duration = Duration::from_millis(10);

/// Returns the first `Some` of `check`, or `None` when `deadline` has passed.
pub fn try_until<T>(deadline: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(seen) = check() {
            return Some(seen);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(PAUSE);
    }
}

/// Returns the first `Some` of `check`; panics with `what` when `deadline` has passed.
#[track_caller]
pub fn until<T>(deadline: Duration, what: &str, check: impl FnMut() -> Option<T>) -> T {
    match try_until(deadline, check) {
        Some(seen) => seen,
        None => panic!("timed out after {deadline:?} waiting for {what}"),
    }
}

/// Waits until a process has a lock on `file`, as QEMU and its tools have on an image once they have it open.
///
/// # Panics
///
/// If the file is not locked in time, or does not exist.
#[track_caller]
pub fn until_locked(file: &Path) {
    let inode = fs::metadata(file).expect("the file exists").ino();
    until(LONG, "the file to be locked", || {
        fs::read_to_string("/proc/locks").ok()?.contains(&format!(":{inode} ")).then_some(())
    });
}

/// Returns how many sockets have this path (proc(5), `/proc/net/unix`): the one that listens, and one for each client that
/// is connected, or waits to be accepted.
#[must_use]
pub fn sockets_at(path: &Path) -> usize {
    let path = path.to_str().expect("paths of tests are text");
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    sockets.lines().filter(|line| line.split(' ').next_back() == Some(path)).count()
}

/// Waits until a process listens at a UNIX socket: its path exists a moment before that.
///
/// # Panics
///
/// If none does in time.
#[track_caller]
pub fn until_listening(socket: &Path) {
    const LISTENS: &str = "00010000";
    let path = socket.to_str().expect("paths of tests are text");
    let is_it = |line: &str| line.split_whitespace().nth(3) == Some(LISTENS) && line.ends_with(&format!(" {path}"));
    until(LONG, "a process to listen at the socket", || {
        fs::read_to_string("/proc/net/unix").ok()?.lines().any(is_it).then_some(())
    });
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn test_until_third_check_succeeds_returns_value() {
        let mut checks = 0;

        let seen = until(Duration::from_secs(5), "the third check", || {
            checks += 1;
            (checks == 3).then_some(checks)
        });

        assert_eq!(seen, 3);
    }

    #[test]
    fn test_sockets_are_the_listener_and_its_clients() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();

        until_listening(&socket);
        let alone = sockets_at(&socket);
        let _client = UnixStream::connect(&socket).unwrap();

        assert_eq!((alone, sockets_at(&socket)), (1, 2));
        drop(listener);
    }

    #[test]
    fn test_locked_file_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = fs::File::create(&path).unwrap();
        file.lock().unwrap();

        until_locked(&path);
    }

    #[test]
    fn test_until_deadline_passed_panics_with_condition() {
        let outcome = std::panic::catch_unwind(|| until(Duration::ZERO, "godot", || None::<()>));

        let message = *outcome.unwrap_err().downcast::<String>().unwrap();
        assert!(message.ends_with("waiting for godot"), "{message}");
    }
}
