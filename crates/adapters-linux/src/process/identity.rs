//! The identity of a process: pid, start time and boot ID, read from the kernel.

use std::fs;

use maqet_domain::vm::{BootId, ProcessIdentity};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

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

/// Reads `/proc/PID/stat`; `None` if there is no such process.
pub fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Returns the boot ID of the running kernel; empty where it is not available, which is then so for every process.
pub fn boot_id() -> BootId {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    BootId(text.trim().to_owned())
}

/// Returns the identity of the process that has `pid` now, if it is alive.
pub fn identify(pid: u32) -> Option<ProcessIdentity> {
    let stat = read_stat(pid).filter(|stat| stat.is_alive())?;
    Some(ProcessIdentity { pid, start_ticks: stat.start_ticks, boot_id: boot_id() })
}

/// Returns whether exactly this process is alive; `boot` is the boot ID of the running kernel.
pub fn is_alive(process: &ProcessIdentity, boot: &BootId) -> bool {
    is_that(process, boot, read_stat(process.pid))
}

/// Returns whether `found`, which has the pid of `process` now, is `process` itself and alive.
///
/// A pid is reused, and so is a start time after a reboot; all three together are not.
fn is_that(process: &ProcessIdentity, boot: &BootId, found: Option<Stat>) -> bool {
    let is_same = |stat: Stat| stat.is_alive() && stat.start_ticks == process.start_ticks;
    process.boot_id == *boot && found.is_some_and(is_same)
}

/// Reaps exactly this process if it is a dead child of this one.
pub fn reap(process: &ProcessIdentity, boot: &BootId) {
    let is_zombie = |stat: Stat| stat.state == b'Z' && stat.start_ticks == process.start_ticks;
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
    if process.boot_id == *boot && read_stat(process.pid).is_some_and(is_zombie) {
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

/// Kills exactly this process; nothing happens if it is gone or may not be killed.
///
/// For a drop, which cannot wait; otherwise use [`LinuxProcesses`](super::LinuxProcesses).
pub fn kill(process: &ProcessIdentity) {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if is_alive(process, &boot_id()) {
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

    #[test]
    fn test_identify_own_process_is_alive() {
        let me = identify(std::process::id()).unwrap();

        assert!(is_alive(&me, &boot_id()));
        assert!(!is_alive(&ProcessIdentity { start_ticks: me.start_ticks + 1, ..me.clone() }, &boot_id()));
        assert!(!is_alive(&me, &BootId("another".to_owned())));
    }

    /// A process that was started once: in which boot, with which pid, when.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Spawned {
        boot: u8,
        pid: u32,
        start_ticks: u64,
        /// Its state now, if its pid was not reused.
        state: u8,
    }

    impl Spawned {
        fn identity(self) -> ProcessIdentity {
            let boot_id = BootId(self.boot.to_string());
            ProcessIdentity { pid: self.pid, start_ticks: self.start_ticks, boot_id }
        }
    }

    /// Processes started one after the other, in few boots and with few pids, so that all values are reused often.
    fn starts() -> impl Strategy<Value = Vec<Spawned>> {
        let state = proptest::sample::select(b"RSDTtZXxI".to_vec());
        let step = (any::<bool>(), 1..4_u32, 1..3_u64, state);
        proptest::collection::vec(step, 1..12).prop_map(|steps| {
            let (mut boot, mut ticks) = (0, 0);
            let next = |(is_rebooted, pid, later, state): (bool, u32, u64, u8)| {
                // The count restarts with each boot.
                (boot, ticks) = if is_rebooted { (boot + 1, later) } else { (boot, ticks + later) };
                Spawned { boot, pid, start_ticks: ticks, state }
            };
            steps.into_iter().map(next).collect()
        })
    }

    proptest! {
        // A signal to the wrong process cannot be undone.
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn test_is_that_never_matches_another_process(
            starts in starts(),
            recorded in any::<proptest::sample::Index>(),
            is_of_another_boot in proptest::bool::weighted(0.1),
        ) {
            let recorded = starts[recorded.index(starts.len())];
            let boot = starts[starts.len() - 1].boot + u8::from(is_of_another_boot);
            // The process started last with a pid, in this boot, has it.
            let has_pid = starts.iter().rev().find(|start| start.boot == boot && start.pid == recorded.pid);
            let stat = has_pid.map(|start| Stat {
                state: start.state,
                is_exiting: false,
                cpu_ticks: 0,
                threads: 1,
                start_ticks: start.start_ticks,
            });

            let is_it = is_that(&recorded.identity(), &BootId(boot.to_string()), stat);

            let lives = has_pid == Some(&recorded) && !matches!(recorded.state, b'Z' | b'X' | b'x');
            prop_assert_eq!(is_it, lives);
        }
    }

    proptest! {
        #[test]
        fn test_stat_any_bytes_do_not_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_stat(&line);
        }
    }
}
