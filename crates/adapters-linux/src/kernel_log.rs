//! What the kernel did to a process that is gone: killed for lack of memory, or crashed.
//!
//! The kernel's log (`/dev/kmsg`) names the process, but often only root may read it, and old records are overwritten.
//! The counters of kills are readable by everyone and name nothing, so they are read at the start of the process and
//! compared later; they prove the reason only for a process that was alone in its control group.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use maqet_domain::vm::{KernelReport, ProcessIdentity};
use rustix::fs::OFlags;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_KERNEL_RECORD_BYTES, MAX_KERNEL_RECORDS};
use crate::process::{PidScope, proc_file};

/// How many processes the kernel had killed for lack of memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryKills {
    /// On the whole host.
    pub total: u64,
    /// In the control group of a process and in those around it, from the inside out.
    pub groups: Vec<GroupKills>,
}

/// The same in one control group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupKills {
    /// The file of its counter.
    pub file: PathBuf,
    /// How many.
    pub count: u64,
    /// Whether the process was alone in it, so that a kill there was its own.
    #[serde(default)]
    pub is_own: bool,
}

impl MemoryKills {
    /// Reads the counters for a process that is alive.
    pub fn read(pid: u32) -> Self {
        let total = total_kills().unwrap_or_default();
        let membership = proc_file::read_text(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let mounts = proc_file::read_text("/proc/self/mountinfo").unwrap_or_default();
        let files = counter_files(&membership, &mounts);
        let with_count = |file: PathBuf| Some(GroupKills { count: kills_in(&file)?, file, is_own: false });
        let mut groups: Vec<GroupKills> = files.into_iter().filter_map(with_count).collect();
        if let Some(innermost) = groups.first_mut() {
            innermost.is_own = is_alone_in(&innermost.file, pid);
        }
        Self { total, groups }
    }

    /// Returns the innermost control group that still exists, if a process in it was killed since these were read.
    pub fn group_with_more(&self) -> Option<&GroupKills> {
        if total_kills().is_some_and(|total| total <= self.total) {
            return None;
        }
        self.innermost_with_more(kills_in)
    }

    fn innermost_with_more(&self, count: impl Fn(&Path) -> Option<u64>) -> Option<&GroupKills> {
        let (group, now) = self.groups.iter().find_map(|group| Some((group, count(&group.file)?)))?;
        (now > group.count).then_some(group)
    }
}

/// Returns what the kernel did to a process of this boot of the host that is gone; `kills` is from its start.
pub fn kernel_report(process: &ProcessIdentity, kills: &MemoryKills) -> KernelReport {
    if !PidScope::current().contains(process) {
        return KernelReport::Unknown;
    }
    match read_log(process) {
        LogAnswer::Found(report) => report,
        LogAnswer::Nothing => KernelReport::Unknown,
        LogAnswer::Unavailable => kills.group_with_more().map_or(KernelReport::Unknown, from_group),
    }
}

/// Returns what the counter of a control group says: only that of its own group blames memory for the end of a process.
fn from_group(group: &GroupKills) -> KernelReport {
    let folder = group.file.parent().unwrap_or(&group.file).display();
    let message = format!("the kernel killed a process in `{folder}` because memory ran out");
    if group.is_own { KernelReport::OutOfMemory(message) } else { KernelReport::MemoryKillNearby(message) }
}

/// Returns whether a control group has no other processes than this one and `pid`, by the file of its counter.
fn is_alone_in(file: &Path, pid: u32) -> bool {
    let is_expected = |line: &str| line.parse().is_ok_and(|found: u32| found == pid || found == std::process::id());
    let processes = fs::read_to_string(file.with_file_name("cgroup.procs"));
    processes.is_ok_and(|processes| processes.lines().all(is_expected))
}

/// What the kernel's log says about a process.
#[derive(Debug, PartialEq, Eq)]
enum LogAnswer {
    Found(KernelReport),
    /// It has everything since the start of the process, and nothing about it.
    Nothing,
    /// It cannot be read, or is too short, or names processes by other pids than this one does.
    Unavailable,
}

/// The process namespace of the kernel itself, whose pids are those in its log (`PROC_PID_INIT_INO`).
const INITIAL_NAMESPACE: &str = "pid:[4026531836]";

fn read_log(process: &ProcessIdentity) -> LogAnswer {
    if fs::read_link("/proc/self/ns/pid").ok().is_none_or(|namespace| namespace.as_os_str() != INITIAL_NAMESPACE) {
        return LogAnswer::Unavailable;
    }
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let Ok(mut log) = File::options().read(true).custom_flags(flags).open("/dev/kmsg") else {
        return LogAnswer::Unavailable;
    };
    let mut records = std::iter::from_fn(|| {
        let mut record = vec![0; MAX_KERNEL_RECORD_BYTES];
        loop {
            match log.read(&mut record) {
                Ok(length @ 1..) => {
                    record.truncate(length);
                    return Some(String::from_utf8_lossy(&record).into_owned());
                }
                // A record was overwritten while it was read (EPIPE).
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    });
    search_log(&mut records.by_ref().take(MAX_KERNEL_RECORDS), process.pid, started_us(process))
}

/// Returns when a process started, by the clock of the kernel's log, in µs; not later.
///
/// The start time counts the time while the host was suspended, the log does not.
fn started_us(process: &ProcessIdentity) -> u64 {
    let us = |clock| {
        let time = clock_gettime(clock);
        time.tv_sec.cast_unsigned().saturating_mul(1_000_000) + time.tv_nsec.cast_unsigned() / 1_000
    };
    let suspended = us(ClockId::Boottime).saturating_sub(us(ClockId::Monotonic));
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    (process.start_ticks.saturating_mul(1_000_000) / ticks).saturating_sub(suspended)
}

/// Searches the records of the log (`Documentation/ABI/testing/dev-kmsg`): `PRIORITY,NUMBER,µs,FLAGS;TEXT`.
fn search_log(records: &mut dyn Iterator<Item = String>, pid: u32, started_us: u64) -> LogAnswer {
    let (killed, crashed) = (format!("Killed process {pid} ("), format!("[{pid}]"));
    let mut answer = LogAnswer::Unavailable;
    for (index, record) in records.enumerate() {
        let Some((head, text)) = record.split_once(';') else { continue };
        let at: u64 = head.split(',').nth(2).and_then(|at| at.parse().ok()).unwrap_or_default();
        if index == 0 && at <= started_us {
            answer = LogAnswer::Nothing;
        }
        let text = text.lines().next().unwrap_or_default();
        if at < started_us {
            continue;
        }
        if text.contains(&killed) {
            // `Memory cgroup out of memory: Killed process 7 (qemu-system-x86) total-vm:…`
            let end = text.find(" total-vm").unwrap_or(text.len());
            answer = LogAnswer::Found(KernelReport::OutOfMemory(text[..end].trim_end_matches(',').to_owned()));
        } else if text.contains(&crashed) && is_fault(text) {
            answer = LogAnswer::Found(KernelReport::Fault(text.to_owned()));
        }
    }
    answer
}

/// `qemu-system-x86[7]: segfault at 0 ip …`, `traps: qemu-system-x86[7] general protection fault ip:…` (6.18).
fn is_fault(text: &str) -> bool {
    text.contains("]: segfault at ") || text.starts_with("traps: ")
}

fn total_kills() -> Option<u64> {
    field(&proc_file::read_text("/proc/vmstat").ok()?, "oom_kill")
}

fn kills_in(file: &Path) -> Option<u64> {
    field(&proc_file::read_text(file).ok()?, "oom_kill")
}

/// Returns the number of a line `NAME NUMBER`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Returns the counters of the control groups of a process, from the inside out (cgroups(7)).
///
/// Version 2 counts a kill in each group around it (`memory.events`), version 1 only in the innermost
/// (`memory.oom_control`).
fn counter_files(membership: &str, mounts: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in membership.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let is_v2 = controllers.is_empty();
        if !is_v2 && !controllers.split(',').any(|name| name == "memory") {
            continue;
        }
        let Some(mount) = cgroup_mount(mounts, is_v2) else { continue };
        let group = mount.join(path.trim_start_matches('/'));
        if is_v2 {
            let around = group.ancestors().take_while(|group| group.starts_with(&mount));
            files.extend(around.map(|group| group.join("memory.events")));
        } else {
            files.push(group.join("memory.oom_control"));
        }
    }
    files
}

/// Returns where the control groups are mounted: version 2, or the memory controller of version 1 (proc(5),
/// `mountinfo`).
fn cgroup_mount(mounts: &str, is_v2: bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let is_wanted = match (kind.next()?, is_v2) {
            ("cgroup2", true) => true,
            ("cgroup", false) => kind.nth(1)?.split(',').any(|option| option == "memory"),
            _ => false,
        };
        is_wanted.then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";

    #[test]
    fn test_counter_files_version_2_are_nested_ones() {
        let files = counter_files("0::/user.slice/a.scope\n", MOUNTS);

        let expected = ["user.slice/a.scope/", "user.slice/", ""];
        let expected = expected.map(|path| PathBuf::from(format!("/sys/fs/cgroup/unified/{path}memory.events")));
        assert_eq!(files, expected);
    }

    #[test]
    fn test_counter_files_version_1_is_the_innermost() {
        let files = counter_files("9:name=systemd:/\n4:memory:/job/7\n3:cpuset:/\n", MOUNTS);

        assert_eq!(files, [PathBuf::from("/sys/fs/cgroup/memory/job/7/memory.oom_control")]);
    }

    #[test]
    fn test_memory_kills_group_that_is_gone_leaves_the_one_around() {
        let group = |file: &str, count| GroupKills { file: PathBuf::from(file), count, is_own: false };
        let kills = MemoryKills { total: 0, groups: vec![group("/c/a/b/events", 0), group("/c/a/events", 3)] };
        let now = |outer: u64| move |file: &Path| (file == Path::new("/c/a/events")).then_some(outer);

        assert_eq!(kills.innermost_with_more(now(4)), kills.groups.last());
        assert_eq!(kills.innermost_with_more(now(3)), None);
        assert_eq!(kills.innermost_with_more(|_| None), None);
        // The innermost counts alone while it exists.
        assert_eq!(kills.innermost_with_more(|file| Some(u64::from(file != Path::new("/c/a/b/events")) * 9)), None);
    }

    #[test]
    fn test_memory_kill_in_shared_group_does_not_blame_memory() {
        let group = |is_own| GroupKills { file: PathBuf::from("/c/a/memory.events"), count: 0, is_own };
        let message = "the kernel killed a process in `/c/a` because memory ran out".to_owned();

        assert_eq!(from_group(&group(true)), KernelReport::OutOfMemory(message.clone()));
        assert_eq!(from_group(&group(false)), KernelReport::MemoryKillNearby(message));
    }

    #[test]
    fn test_group_with_other_processes_is_shared() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.events");
        let list = |processes: String| fs::write(folder.path().join("cgroup.procs"), processes).unwrap();

        list(format!("7\n{}\n", std::process::id()));
        let with_us = is_alone_in(&file, 7);
        list("7\n8\n".to_owned());
        let with_another = is_alone_in(&file, 7);

        assert!(with_us && !with_another);
    }

    fn search(records: &[&str], started_us: u64) -> LogAnswer {
        search_log(&mut records.iter().map(|record| (*record).to_owned()), 7, started_us)
    }

    const BOOT: &str = "5,0,0,-;Linux version 6.18\n SUBSYSTEM=x\n";
    const KILLED: &str = "3,9,500,-;Memory cgroup out of memory: Killed process 7 (qemu-system-x86) total-vm:9kB\n";

    #[test]
    fn test_search_log_killed_process_is_out_of_memory() {
        let message = "Memory cgroup out of memory: Killed process 7 (qemu-system-x86)".to_owned();

        assert_eq!(search(&[BOOT, KILLED], 400), LogAnswer::Found(KernelReport::OutOfMemory(message)));
    }

    #[test]
    fn test_search_log_crash_is_a_fault() {
        for text in ["qemu-system-x86[7]: segfault at 0 ip 5", "traps: qemu-system-x86[7] trap invalid opcode ip:5"] {
            let found = search(&[BOOT, &format!("6,9,500,-;{text}\n")], 400);

            assert_eq!(found, LogAnswer::Found(KernelReport::Fault(text.to_owned())));
        }
    }

    #[test]
    fn test_search_log_other_or_older_process_is_nothing() {
        assert_eq!(search(&[BOOT, "6,9,500,-;a[77]: segfault at 0\n"], 400), LogAnswer::Nothing);
        assert_eq!(search(&[BOOT, KILLED], 600), LogAnswer::Nothing);
        assert_eq!(search(&[KILLED], 400), search(&[BOOT, KILLED], 400));
        // What happened before its first record is not known.
        assert_eq!(search(&["6,9,500,-;x\n"], 400), LogAnswer::Unavailable);
        assert_eq!(search(&[], 400), LogAnswer::Unavailable);
    }
}
