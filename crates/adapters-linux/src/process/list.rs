//! The processes of this host (proc(5)).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Returns the IDs of all processes in `/proc`, which may be that of another namespace.
pub(super) fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns the command line of a process, each argument terminated by NUL; empty if it cannot be read.
pub fn command_line(pid: u32) -> Vec<u8> {
    fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// Returns whether a process belongs to this user.
pub fn is_own(pid: u32) -> bool {
    let found = fs::metadata(Path::new("/proc").join(pid.to_string()));
    found.is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
}
