//! The state of a process, read from the kernel (`/proc/PID/stat`).

use maqet_domain::vm::ProcessIdentity;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::proc_file;
use super::scope::PidScope;

/// The fields of `/proc/PID/stat` that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The state letter of its first thread: `Z` and `X` if it is dead, `T` if it was stopped by a signal.
    pub state: u8,
    /// Whether its first thread is exiting.
    pub is_exiting: bool,
    /// Its CPU time, in clock ticks.
    pub cpu_ticks: u64,
    /// The number of its threads, including dead ones that are not gone yet.
    pub threads: u32,
    /// The start time of the process, in clock ticks since boot.
    pub start_ticks: u64,
}

impl Stat {
    /// Returns whether the process is alive.
    ///
    /// A killed process whose first thread is already a zombie keeps its files open, and its locks, until its last
    /// thread is gone: a few milliseconds, and on a busy host 0.1 s (measured with QEMU).
    pub const fn is_alive(self) -> bool {
        !self.is_first_thread_dead() || self.threads > 1
    }

    const fn is_first_thread_dead(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Returns whether the process is exiting or has exited.
    pub const fn is_ending(self) -> bool {
        self.is_exiting || self.is_first_thread_dead()
    }

    /// Returns whether the process was stopped by a signal.
    pub const fn is_frozen(self) -> bool {
        self.state == b'T'
    }
}

/// The flag of a thread that is exiting (`include/linux/sched.h`).
const PF_EXITING: u64 = 0x4;

/// Parses `/proc/PID/stat` (proc(5)).
///
/// The second field is the name in parentheses, and a name may contain spaces and parentheses: fields are counted from
/// the last `)`.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let end_of_name = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(line.get(end_of_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // Field 3 is the state, 9 the flags, 14 and 15 user and system time, 20 the threads, 22 the start time.
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    let user: u64 = fields.nth(4)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let threads = fields.nth(4)?.parse().ok()?;
    let start_ticks = fields.nth(1)?.parse().ok()?;
    let is_exiting = flags & PF_EXITING != 0;
    Some(Stat { state, is_exiting, cpu_ticks: user.saturating_add(system), threads, start_ticks })
}

/// Reads `/proc/PID/stat`; `None` if there is no such process. The number is one of the namespace of `/proc`.
pub(super) fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&proc_file::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads the state of this process; `None` where `/proc` is that of a namespace without it.
pub(super) fn read_own_stat() -> Option<Stat> {
    parse_stat(&proc_file::read("/proc/self/stat").ok()?)
}

/// Kills exactly this process; nothing happens if it is gone or may not be killed.
///
/// For a drop, which cannot wait; otherwise use [`LinuxProcesses`](super::LinuxProcesses).
pub fn kill(process: &ProcessIdentity) {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if PidScope::current().is_alive(process) {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAIL: &str = "S 1 2 3 0 -1 4194560 1 2 3 0 4 5 6 7 20 0 17 0 987654 1 2";

    #[track_caller]
    fn check(name: &str) {
        let (threads, start_ticks) = (17, 987_654);
        let expected = Stat { state: b'S', is_exiting: false, cpu_ticks: 4 + 5, threads, start_ticks };

        let stat = parse_stat(format!("42 ({name}) {TAIL}").as_bytes());

        assert_eq!(stat, Some(expected), "{name}");
    }

    #[test]
    fn test_stat_odd_name_does_not_shift_fields() {
        check("qemu");
        check("a) Z 1 2 3 (b");
        check(") ) )");
        check("");
    }

    /// Checks whether a process with this state, these flags and this number of threads is alive, and whether it is exiting.
    #[track_caller]
    fn check_life(state: char, flags: u32, threads: u32, expected: (bool, bool)) {
        let line = format!("42 (qemu) {state} 1 2 3 0 -1 {flags} 1 2 3 0 4 5 6 7 20 0 {threads} 0 987654 1 2");

        let stat = parse_stat(line.as_bytes()).unwrap();

        assert_eq!((stat.is_alive(), stat.is_ending()), expected, "{line}");
    }

    #[test]
    fn test_stat_process_is_alive_until_last_thread_exits() {
        check_life('S', 0x0040_0140, 5, (true, false));
        check_life('T', 0x0040_0140, 5, (true, false));
        check_life('R', 0x0040_0144, 5, (true, true));
        check_life('Z', 0x0040_014c, 2, (true, true));
        check_life('Z', 0x0040_014c, 1, (false, true));
        check_life('X', 0x0040_014c, 0, (false, true));
    }

    #[test]
    fn test_stat_incomplete_line_is_none() {
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"42 (x) S 1 2"), None);
        assert_eq!(parse_stat(b"42 (x)"), None);
    }

    proptest! {
        #[test]
        fn test_stat_any_bytes_do_not_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_stat(&line);
        }
    }
}
