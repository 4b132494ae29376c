//! Who a process is: pid, start time and boot, read from the kernel.

use std::fs;

use maqet_domain::vm::{BootId, ProcessIdentity};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid};

/// What `/proc/PID/stat` tells, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The state letter of its first thread; `Z` and `X` are dead, `T` was stopped by a signal.
    pub state: u8,
    /// Whether its first thread is on its way out of the kernel.
    pub is_exiting: bool,
    /// How long CPUs have worked for it, in clock ticks.
    pub cpu_ticks: u64,
    /// How many threads it has, dead ones that are not gone included.
    pub threads: u32,
    /// When the process started, in clock ticks since boot.
    pub start_ticks: u64,
}

impl Stat {
    /// Returns whether such a process still lives.
    ///
    /// A killed process whose first thread is a zombie already has its files open, and its locks, until its last thread
    /// is gone: some milliseconds, and on a busy host a tenth of a second (measured with QEMU).
    pub const fn is_alive(self) -> bool {
        !self.is_first_thread_dead() || self.threads > 1
    }

    const fn is_first_thread_dead(self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// Returns whether such a process ends right now, or has ended.
    pub const fn is_ending(self) -> bool {
        self.is_exiting || self.is_first_thread_dead()
    }

    /// Returns whether such a process was stopped by a signal.
    pub const fn is_frozen(self) -> bool {
        self.state == b'T'
    }
}

/// The flag of a thread that is on its way out (`include/linux/sched.h`).
const PF_EXITING: u64 = 0x4;

/// Reads a line of `/proc/PID/stat` (proc(5)).
///
/// The second field is the name in parentheses, and a name may hold spaces and parentheses: everything is counted from
/// the last `)`.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let end_of_name = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(line.get(end_of_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // The state is field 3, flags 9, time in its own code and in the kernel 14 and 15, threads 20, the start time 22.
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    let own: u64 = fields.nth(4)?.parse().ok()?;
    let in_kernel: u64 = fields.next()?.parse().ok()?;
    let threads = fields.nth(4)?.parse().ok()?;
    let start_ticks = fields.nth(1)?.parse().ok()?;
    let is_exiting = flags & PF_EXITING != 0;
    Some(Stat { state, is_exiting, cpu_ticks: own.saturating_add(in_kernel), threads, start_ticks })
}

/// Returns what the kernel tells of a process; `None` if there is none of that pid.
pub fn stat_of(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Returns the boot of the running kernel; empty where it is not told, which is then so for everybody.
pub fn boot_id() -> BootId {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    BootId(text.trim().to_owned())
}

/// Returns the identity of the living process that has `pid` now.
pub fn identity_of(pid: u32) -> Option<ProcessIdentity> {
    let stat = stat_of(pid).filter(|stat| stat.is_alive())?;
    Some(ProcessIdentity { pid, start_ticks: stat.start_ticks, boot_id: boot_id() })
}

/// Returns whether exactly this process lives, `boot` being the boot of the running kernel.
pub fn is_alive(process: &ProcessIdentity, boot: &BootId) -> bool {
    is_that(process, boot, stat_of(process.pid))
}

/// Returns whether `found`, which has the pid of `process` now, is `process` itself and lives.
///
/// A pid is given again, and so is a start time after a reboot; all three together are not.
fn is_that(process: &ProcessIdentity, boot: &BootId, found: Option<Stat>) -> bool {
    let is_same = |stat: Stat| stat.is_alive() && stat.start_ticks == process.start_ticks;
    process.boot_id == *boot && found.is_some_and(is_same)
}

/// Takes exactly this process from the kernel if it is a dead child of ours that nobody waited for.
pub fn reap(process: &ProcessIdentity, boot: &BootId) {
    let is_zombie = |stat: Stat| stat.state == b'Z' && stat.start_ticks == process.start_ticks;
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
    if process.boot_id == *boot && stat_of(process.pid).is_some_and(is_zombie) {
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

/// Kills exactly this process; one that is gone, or may not be killed, is left alone.
///
/// For when there is no runtime to wait in; otherwise [`LinuxProcesses`](super::LinuxProcesses) does this.
pub fn kill_now(process: &ProcessIdentity) {
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
    fn test_stat_name_with_parentheses_and_spaces_does_not_shift_fields() {
        check("qemu");
        check("a) Z 1 2 3 (b");
        check(") ) )");
        check("");
    }

    /// Checks whether a process of this state, with these flags and so many threads lives, and whether it ends.
    #[track_caller]
    fn check_life(state: char, flags: u32, threads: u32, expected: (bool, bool)) {
        let line = format!("42 (qemu) {state} 1 2 3 0 -1 {flags} 1 2 3 0 4 5 6 7 20 0 {threads} 0 987654 1 2");

        let stat = parse_stat(line.as_bytes()).unwrap();

        assert_eq!((stat.is_alive(), stat.is_ending()), expected, "{line}");
    }

    #[test]
    fn test_stat_process_lives_until_its_last_thread_is_gone() {
        check_life('S', 0x0040_0140, 5, (true, false));
        check_life('T', 0x0040_0140, 5, (true, false));
        check_life('R', 0x0040_0144, 5, (true, true));
        check_life('Z', 0x0040_014c, 2, (true, true));
        check_life('Z', 0x0040_014c, 1, (false, true));
        check_life('X', 0x0040_014c, 0, (false, true));
    }

    #[test]
    fn test_stat_half_a_line_is_none() {
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"42 (x) S 1 2"), None);
        assert_eq!(parse_stat(b"42 (x)"), None);
    }

    #[test]
    fn test_identity_of_ourselves_is_alive() {
        let me = identity_of(std::process::id()).unwrap();

        assert!(is_alive(&me, &boot_id()));
        assert!(!is_alive(&ProcessIdentity { start_ticks: me.start_ticks + 1, ..me.clone() }, &boot_id()));
        assert!(!is_alive(&me, &BootId("another".to_owned())));
    }

    /// A process that was once born: on which boot, with which pid, when.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Birth {
        boot: u8,
        pid: u32,
        start_ticks: u64,
        /// How it is now, if its pid is still its own.
        state: u8,
    }

    impl Birth {
        fn identity(self) -> ProcessIdentity {
            let boot_id = BootId(self.boot.to_string());
            ProcessIdentity { pid: self.pid, start_ticks: self.start_ticks, boot_id }
        }
    }

    /// Processes born one after the other, in few boots and with few pids, so that all of it is given again often.
    fn births() -> impl Strategy<Value = Vec<Birth>> {
        let state = proptest::sample::select(b"RSDTtZXxI".to_vec());
        let step = (any::<bool>(), 1..4_u32, 1..3_u64, state);
        proptest::collection::vec(step, 1..12).prop_map(|steps| {
            let (mut boot, mut ticks) = (0, 0);
            let born = |(is_rebooted, pid, later, state): (bool, u32, u64, u8)| {
                // A boot begins to count anew.
                (boot, ticks) = if is_rebooted { (boot + 1, later) } else { (boot, ticks + later) };
                Birth { boot, pid, start_ticks: ticks, state }
            };
            steps.into_iter().map(born).collect()
        })
    }

    proptest! {
        // A signal to a stranger cannot be taken back.
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn test_is_that_recorded_process_is_never_taken_for_another(
            births in births(),
            recorded in any::<proptest::sample::Index>(),
            is_of_another_boot in proptest::bool::weighted(0.1),
        ) {
            let recorded = births[recorded.index(births.len())];
            let boot = births[births.len() - 1].boot + u8::from(is_of_another_boot);
            // Whoever was born last with a pid, since the host was started, has it.
            let has_pid = births.iter().rev().find(|birth| birth.boot == boot && birth.pid == recorded.pid);
            let stat = has_pid.map(|birth| Stat {
                state: birth.state,
                is_exiting: false,
                cpu_ticks: 0,
                threads: 1,
                start_ticks: birth.start_ticks,
            });

            let is_it = is_that(&recorded.identity(), &BootId(boot.to_string()), stat);

            let lives = has_pid == Some(&recorded) && !matches!(recorded.state, b'Z' | b'X' | b'x');
            prop_assert_eq!(is_it, lives);
        }
    }

    proptest! {
        #[test]
        fn test_stat_any_bytes_never_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_stat(&line);
        }
    }
}
