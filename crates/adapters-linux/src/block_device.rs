//! Block devices of the host, and what they are parts or views of: a partition of a disk, a loop device of a file.

use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, major, minor, open};
use rustix::io::Errno;

/// The kernel's directories of block devices by number, and by name (`Documentation/ABI/testing/sysfs-block`, `sysfs-dev`).
const BY_NUMBER: &str = "/sys/dev/block";
const BY_NAME: &str = "/sys/block";

/// How deep one device can be a part or a view of another one, at most: a partition of a loop device of a partition.
const MAX_DEPTH: usize = 8;

/// Returns whether a file system, another driver or the swap of the host uses a block device, or a part of it.
pub fn is_claimed(device: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::NONBLOCK | OFlags::CLOEXEC;
    open(device, flags, Mode::empty()).is_err_and(|error| error == Errno::BUSY)
}

/// Returns a loop device that shows this file, and that the host uses.
pub fn claimed_loop_of(file: &Metadata) -> Option<PathBuf> {
    let devices = fs::read_dir(BY_NAME).ok()?.flatten().map(|entry| entry.file_name());
    let loops = devices.filter(|name| name.as_bytes().starts_with(b"loop"));
    let is_same = |shown: &Metadata| (shown.dev(), shown.ino()) == (file.dev(), file.ino());
    let of_file = loops.filter(|name| {
        let shown = loop_file(&Path::new(BY_NAME).join(name));
        shown.and_then(|shown| fs::metadata(shown).ok()).as_ref().is_some_and(is_same)
    });
    of_file.map(|name| Path::new("/dev").join(name)).find(|device| is_claimed(device))
}

/// Returns what a block device is a part or a view of, nearest first; nothing for another path.
pub(crate) fn below(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    while found.len() < MAX_DEPTH {
        let device = found.last().map_or(path, PathBuf::as_path);
        let Some(next) = directly_below(device) else { break };
        found.push(next);
    }
    found
}

fn directly_below(path: &Path) -> Option<PathBuf> {
    let device = fs::metadata(path).ok().filter(|found| found.file_type().is_block_device())?.rdev();
    let directory = Path::new(BY_NUMBER).join(format!("{}:{}", major(device), minor(device)));
    if let Some(file) = loop_file(&directory) {
        return Some(file);
    }
    let is_partition = directory.join("partition").exists();
    // That of a partition is in the one of its disk.
    let disk = is_partition.then(|| fs::canonicalize(&directory).ok()?.parent()?.file_name().map(ToOwned::to_owned));
    Some(Path::new("/dev").join(disk??))
}

/// Returns the file that the loop device with this directory of the kernel shows.
fn loop_file(directory: &Path) -> Option<PathBuf> {
    let mut file = fs::read(directory.join("loop/backing_file")).ok()?;
    if file.last() == Some(&b'\n') {
        file.pop();
    }
    Some(std::ffi::OsString::from_vec(file).into())
}
