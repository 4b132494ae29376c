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

use super::LinuxProcesses;
use super::identity::Stat;

impl ProcessStats for LinuxProcesses {
    fn usage(&self, process: &ProcessIdentity) -> Option<ProcessUsage> {
        self.living(process)?;
        let file = |name: &str| format!("/proc/{}/{name}", process.pid);
        let (binary, is_binary_deleted) = fs::read_link(file("exe")).map_or((None, false), |link| {
            let (path, is_gone) = without_deleted_mark(link);
            (Some(path), is_gone)
        });
        let status = fs::read_to_string(file("status")).unwrap_or_default();
        let size = |name| size_in(&status, name).unwrap_or_default();
        let pss = fs::read_to_string(file("smaps_rollup")).ok().and_then(|rollup| size_in(&rollup, "Pss:"));
        // Read again at the end: the pid may have been reused meanwhile.
        let stat = self.living(process)?;
        let uptime = since_boot().saturating_sub(duration(stat.start_ticks));
        Some(ProcessUsage {
            binary,
            is_binary_deleted,
            started_at: Timestamp::now().checked_sub(jiff::SignedDuration::try_from(uptime).ok()?).ok()?,
            uptime,
            threads: stat.threads,
            cpu_time: duration(stat.cpu_ticks),
            rss: size_in(&status, "VmRSS:")?,
            swapped: size("VmSwap:"),
            huge_pages: size("HugetlbPages:"),
            pss,
        })
    }

    fn cpu_time(&self, process: &ProcessIdentity) -> Option<Duration> {
        Some(duration(self.living(process)?.cpu_ticks))
    }
}

impl LinuxProcesses {
    fn living(&self, process: &ProcessIdentity) -> Option<Stat> {
        self.stat(process).filter(|stat| stat.is_alive())
    }
}

/// Converts clock ticks.
fn duration(ticks: u64) -> Duration {
    let each = Duration::from_secs(1) / u32::try_from(clock_ticks_per_second().max(1)).unwrap_or(100);
    let nanos = u128::from(ticks) * each.as_nanos();
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Returns the uptime of the kernel including suspend, which start times are relative to.
fn since_boot() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Removes the suffix that the kernel appends to the path of a deleted program (proc(5)); returns whether it did.
fn without_deleted_mark(link: PathBuf) -> (PathBuf, bool) {
    match link.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
        // A program may have such a name.
        Some(path) if fs::symlink_metadata(&link).is_err() => {
            (PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())), true)
        }
        Some(_) | None => (link, false),
    }
}

/// Parses the size on the line that begins with `name`, in `/proc/PID/status` and `smaps_rollup`.
fn size_in(text: &str, name: &str) -> Option<ByteSize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(ByteSize::from_bytes(kib.checked_mul(1 << 10)?))
}

#[cfg(test)]
mod tests {
    use super::super::PidScope;
    use super::*;

    #[test]
    fn test_size_in_reads_exactly_the_named_line() {
        let rollup = "0-7f ---p 0 00:00 0  [rollup]\nRss:  1748 kB\nPss:   344 kB\nPss_Dirty:  112 kB\n";

        assert_eq!(size_in(rollup, "Pss:"), Some(ByteSize::from_bytes(344 << 10)));
        assert_eq!(size_in(rollup, "Swap:"), None);
        assert_eq!(size_in("Pss: many kB\n", "Pss:"), None);
        assert_eq!(size_in("Pss: 18446744073709551615 kB\n", "Pss:"), None);
    }

    #[test]
    fn test_without_deleted_mark_deleted_program_is_reported() {
        assert_eq!(without_deleted_mark("/no/such/q (deleted)".into()), ("/no/such/q".into(), true));
        assert_eq!(without_deleted_mark("/usr/bin/q".into()), ("/usr/bin/q".into(), false));
    }

    #[test]
    fn test_without_deleted_mark_existing_name_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("q (deleted)");
        fs::write(&odd, "").unwrap();

        assert_eq!(without_deleted_mark(odd.clone()), (odd, false));
    }

    #[test]
    fn test_usage_of_own_process_is_plausible() {
        let me = PidScope::current().identify_self();

        let usage = LinuxProcesses::new().usage(&me).unwrap();

        assert_eq!((usage.binary, usage.is_binary_deleted), (std::env::current_exe().ok(), false));
        // Other tests allocate memory between the readings of the two sizes.
        assert!(usage.threads >= 1 && usage.rss.bytes() > 0 && usage.pss.is_none_or(|pss| pss.bytes() > 0));
        // A start in the future would be a wrong unit.
        assert!(usage.uptime < since_boot() && usage.started_at <= Timestamp::now());
    }

    #[test]
    fn test_usage_of_reused_pid_is_none() {
        let mut stranger = PidScope::current().identify_self();
        stranger.start_ticks += 1;

        assert_eq!(LinuxProcesses::new().usage(&stranger), None);
        assert_eq!(LinuxProcesses::new().cpu_time(&stranger), None);
    }
}
