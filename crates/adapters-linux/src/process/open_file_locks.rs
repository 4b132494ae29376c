//! Locks on open file descriptions (`F_OFD_SETLK`, fcntl(2)), whichever process holds them.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{major, minor};

use super::proc_file;

/// Returns whether another open file description has a lock on `byte` of an open file.
///
/// Unlike the table of all locks, which the kernel takes up to 15 ms to print, this is one short call. A file system
/// without locks has none.
pub fn is_locked(file: &File, byte: i64) -> bool {
    let (l_type, l_whence) = (to_short(libc::F_WRLCK), to_short(libc::SEEK_SET));
    // A lock for writing excludes any other; it is only asked about, not taken.
    let mut lock = libc::flock { l_type, l_whence, l_start: byte, l_len: 1, l_pid: 0 };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock)).is_ok() && lock.l_type != to_short(libc::F_UNLCK)
}

/// The locks on open file descriptions of this host (proc(5), `/proc/locks`).
#[derive(Debug, Default)]
pub struct OpenFileLocks(Vec<Lock>);

#[derive(Debug, PartialEq, Eq)]
struct Lock {
    device: (u32, u32),
    inode: u64,
    first: u64,
    last: u64,
}

impl OpenFileLocks {
    /// Reads the locks that are held now.
    pub fn read() -> Self {
        let table = proc_file::read_text("/proc/locks").unwrap_or_default();
        Self(table.lines().filter_map(parse).collect())
    }

    /// Returns whether `byte` of `file` is locked.
    ///
    /// On a file system whose files have another device number than the file system itself, as on btrfs, it is never
    /// reported as locked.
    pub fn contain(&self, file: &Metadata, byte: u64) -> bool {
        let device = (major(file.dev()), minor(file.dev()));
        let is_it = |lock: &Lock| lock.inode == file.ino() && lock.device == device;
        self.0.iter().any(|lock| is_it(lock) && (lock.first..=lock.last).contains(&byte))
    }
}

/// Parses a line like `3: OFDLCK ADVISORY  READ -1 08:02:131130 100 101`; one of a waiting process has an arrow.
fn parse(line: &str) -> Option<Lock> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if fields.next()? != "OFDLCK" {
        return None;
    }
    let mut file = fields.nth(3)?.split(':');
    let device = (u32::from_str_radix(file.next()?, 16).ok()?, u32::from_str_radix(file.next()?, 16).ok()?);
    let inode = file.next()?.parse().ok()?;
    let first = fields.next()?.parse().ok()?;
    let last = fields.next()?.parse().unwrap_or(u64::MAX);
    Some(Lock { device, inode, first, last })
}

fn to_short(value: libc::c_int) -> libc::c_short {
    libc::c_short::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Locks a byte as QEMU does, on an open file of its own.
    fn lock(file: &File, byte: i64) {
        let (l_type, l_whence) = (to_short(libc::F_RDLCK), to_short(libc::SEEK_SET));
        let lock = libc::flock { l_type, l_whence, l_start: byte, l_len: 1, l_pid: 0 };
        fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
    }

    #[test]
    fn test_is_locked_asks_about_locks_of_other_open_files() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (own, other) = (File::open(file.path()).unwrap(), File::open(file.path()).unwrap());
        lock(&other, 201);

        assert!(is_locked(&own, 201));
        assert!(!is_locked(&own, 200) && !is_locked(&own, 202) && !is_locked(&other, 201));
        drop(other);
        assert!(!is_locked(&own, 201));
    }

    #[test]
    fn test_parse_lock_has_device_inode_and_bytes() {
        let lock = parse("3: OFDLCK ADVISORY  READ -1 fe:02:131130 100 101");
        assert_eq!(lock, Some(Lock { device: (0xfe, 2), inode: 131_130, first: 100, last: 101 }));
        assert_eq!(parse("3: OFDLCK ADVISORY  WRITE -1 fe:02:131130 0 EOF").unwrap().last, u64::MAX);

        assert_eq!(parse("1: FLOCK  ADVISORY  WRITE 4711 08:02:131130 0 EOF"), None);
        assert_eq!(parse("3: -> OFDLCK ADVISORY  READ -1 fe:02:131130 100 101"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn test_contain_other_byte_or_file_is_free() {
        let file = tempfile::NamedTempFile::new().unwrap().as_file().metadata().unwrap();
        let device = (major(file.dev()), minor(file.dev()));
        let locks = OpenFileLocks(vec![Lock { device, inode: file.ino(), first: 100, last: 101 }]);
        let other = OpenFileLocks(vec![Lock { device, inode: file.ino() + 1, first: 100, last: 101 }]);

        assert!(locks.contain(&file, 100) && locks.contain(&file, 101));
        assert!(!locks.contain(&file, 102) && !other.contain(&file, 100));
    }
}
