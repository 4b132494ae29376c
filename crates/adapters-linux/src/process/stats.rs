//! The port [`ProcessStats`] on Linux: `/proc`.

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use maqet_domain::port::{ProcessStats, ProcessUsage};
use maqet_domain::size::ByteSize;
use maqet_domain::vm::ProcessIdentity;
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

use super::identity::Stat;
use super::{LinuxProcesses, stat_of};

impl ProcessStats for LinuxProcesses {
    fn usage(&self, process: &ProcessIdentity) -> Option<ProcessUsage> {
        self.stat(process)?;
        let file = |name: &str| format!("/proc/{}/{name}", process.pid);
        let (binary, is_binary_gone) = fs::read_link(file("exe")).map_or((None, false), |link| {
            let (path, is_gone) = without_mark(link);
            (Some(path), is_gone)
        });
        let rss = fs::read_to_string(file("status")).ok().and_then(|status| size_in(&status, "VmRSS:"));
        let pss = fs::read_to_string(file("smaps_rollup")).ok().and_then(|rollup| size_in(&rollup, "Pss:"));
        // Only now is it sure that all of it was told of this process, and not of one that got its pid meanwhile.
        let stat = self.stat(process)?;
        let uptime = since_boot().saturating_sub(in_time(stat.start_ticks));
        Some(ProcessUsage {
            binary,
            is_binary_gone,
            started_at: Timestamp::now().checked_sub(jiff::SignedDuration::try_from(uptime).ok()?).ok()?,
            uptime,
            threads: stat.threads,
            cpu_time: in_time(stat.cpu_ticks),
            rss: rss?,
            pss,
        })
    }

    fn cpu_time(&self, process: &ProcessIdentity) -> Option<Duration> {
        Some(in_time(self.stat(process)?.cpu_ticks))
    }
}

impl LinuxProcesses {
    /// Returns what the kernel tells of exactly this process, if it lives.
    fn stat(&self, process: &ProcessIdentity) -> Option<Stat> {
        let is_it = |stat: &Stat| stat.is_alive() && stat.start_ticks == process.start_ticks;
        stat_of(process.pid).filter(|stat| process.boot_id == *self.boot() && is_it(stat))
    }
}

/// Returns how long clock ticks are.
fn in_time(ticks: u64) -> Duration {
    let each = Duration::from_secs(1) / u32::try_from(clock_ticks_per_second().max(1)).unwrap_or(100);
    let nanos = u128::from(ticks) * each.as_nanos();
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Returns how long the kernel has been up, sleep included: what start times are counted in.
fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Takes the mark off that the kernel puts behind the path of a program that is no longer there (proc(5)).
fn without_mark(link: PathBuf) -> (PathBuf, bool) {
    match link.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        // A program may really be called so.
        Some(path) if fs::symlink_metadata(&link).is_err() => {
            (PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())), true)
        }
        Some(_) | None => (link, false),
    }
}

/// Returns the size in kB in the line that begins with `name`, as `/proc/PID/status` and `smaps_rollup` write it.
fn size_in(text: &str, name: &str) -> Option<ByteSize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(ByteSize::from_bytes(kib.checked_mul(1 << 10)?))
}

#[cfg(test)]
mod tests {
    use super::super::identity_of;
    use super::*;

    #[test]
    fn test_size_in_line_of_that_name_alone_is_read() {
        let rollup = "0-7f ---p 0 00:00 0  [rollup]\nRss:  1748 kB\nPss:   344 kB\nPss_Dirty:  112 kB\n";

        assert_eq!(size_in(rollup, "Pss:"), Some(ByteSize::from_bytes(344 << 10)));
        assert_eq!(size_in(rollup, "Swap:"), None);
        assert_eq!(size_in("Pss: many kB\n", "Pss:"), None);
        assert_eq!(size_in("Pss: 18446744073709551615 kB\n", "Pss:"), None);
    }

    #[test]
    fn test_without_mark_program_that_is_gone_is_told() {
        assert_eq!(without_mark("/no/such/q (deleted)".into()), ("/no/such/q".into(), true));
        assert_eq!(without_mark("/usr/bin/q".into()), ("/usr/bin/q".into(), false));
    }

    #[test]
    fn test_without_mark_program_of_that_name_is_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("q (deleted)");
        fs::write(&odd, "").unwrap();

        assert_eq!(without_mark(odd.clone()), (odd, false));
    }

    #[test]
    fn test_usage_of_ourselves_is_told() {
        let me = identity_of(std::process::id()).unwrap();

        let usage = LinuxProcesses::new().usage(&me).unwrap();

        assert_eq!((usage.binary, usage.is_binary_gone), (std::env::current_exe().ok(), false));
        assert!(usage.threads >= 1 && usage.rss.bytes() > 0 && usage.pss <= Some(usage.rss));
        // Counted from the same moment by a clock that runs on, so that a start in the future would be a wrong unit.
        assert!(usage.uptime < since_boot() && usage.started_at <= Timestamp::now());
    }

    #[test]
    fn test_usage_of_a_later_process_of_the_same_pid_is_none() {
        let mut stranger = identity_of(std::process::id()).unwrap();
        stranger.start_ticks += 1;

        assert_eq!(LinuxProcesses::new().usage(&stranger), None);
        assert_eq!(LinuxProcesses::new().cpu_time(&stranger), None);
    }
}
