//! Permissions and times of what is copied.

use std::fs;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, Timespec, Timestamps, UTIME_OMIT, chmodat, fchmod, futimens, utimensat};
use rustix::io::Errno;

/// The permissions and the time of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) modified: i64,
}

impl Attributes {
    /// Sets them on an open file.
    pub(super) fn set(self, file: impl AsFd) -> Result<(), Errno> {
        fchmod(&file, self.mode())?;
        futimens(&file, &self.times())
    }

    /// Sets them on a directory.
    pub(super) fn set_at(self, parent: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        utimensat(&parent, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)?;
        chmodat(&parent, name, self.mode(), AtFlags::empty())
    }

    pub(super) const fn mode(self) -> Mode {
        Mode::from_bits_truncate(self.mode & 0o777)
    }

    fn times(self) -> Timestamps {
        let unset = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        Timestamps { last_access: unset, last_modification: Timespec { tv_sec: self.modified, tv_nsec: 0 } }
    }
}

/// Returns the permissions that new files of this process do not get.
pub(super) fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok()).unwrap_or(0o077)
}
