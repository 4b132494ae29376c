//! Log files that another process appends to: reading them from an offset, and bounding the space they take.
//!
//! A log that is open in QEMU can be neither renamed nor truncated without losing output or moving its content. The
//! space of its older content is given back instead: the file keeps its length, begins with a hole, and every position
//! in it stays valid for all readers.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use maqet_domain::port::Chunk;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::private_file::existing_private_file;

/// The unit in which space is given back: the block size of common file systems.
const BLOCK_BYTES: u64 = 4_096;

/// The unit of `st_blocks` (stat(2)).
const SECTOR_BYTES: u64 = 512;

/// Reads at most `limit` bytes of a log from `offset` on, or from the end of the hole that begins there.
///
/// Errors: whatever the file system reports.
pub fn read_part(log: &File, offset: u64, limit: usize) -> io::Result<Chunk> {
    let length = log.metadata()?.len();
    let start = if offset < length { data_after(log, offset, length)? } else { offset };
    let wanted = length.saturating_sub(start).min(u64::try_from(limit).unwrap_or(u64::MAX));
    let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(limit)];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match log.read_at(rest, start + filled as u64) {
            // It was truncated meanwhile.
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(Chunk { offset: start, bytes, length })
}

/// Returns where the content from `offset` on begins.
fn data_after(log: &File, offset: u64, length: u64) -> io::Result<u64> {
    match seek(log, SeekFrom::Data(offset)) {
        Ok(start) => Ok(start),
        // Nothing but a hole follows.
        Err(Errno::NXIO) => Ok(length),
        // Without support for holes, all is content.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(offset),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether a log takes more than `max_bytes`, or so it seems: with one system call.
///
/// Errors: whatever the file system reports.
pub fn exceeds(path: &Path, max_bytes: u64) -> io::Result<bool> {
    let found = fs::symlink_metadata(path)?;
    // Blocks alone may be more than the content, as they are reserved ahead.
    Ok(found.len().min(found.blocks().saturating_mul(SECTOR_BYTES)) > max_bytes)
}

/// Gives back the space of the older content of a log that takes more than `max_bytes`; the newer half of that stays.
///
/// Errors: whatever the file system reports.
pub fn bound(path: &Path, max_bytes: u64) -> io::Result<()> {
    if !exceeds(path, max_bytes)? {
        return Ok(());
    }
    let log = existing_private_file(path)?;
    let length = log.metadata()?.len();
    if length.saturating_sub(data_after(&log, 0, length)?) <= max_bytes {
        return Ok(());
    }
    let kept_from = length.saturating_sub(max_bytes / 2) / BLOCK_BYTES * BLOCK_BYTES;
    match fallocate(&log, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, kept_from) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => rewrite(&log, kept_from, length),
        done => Ok(done?),
    }
}

/// Does the same on a file system that cannot make holes in existing files: the file is emptied, and the kept content
/// written back to its position.
///
/// What is appended within these microseconds may be lost, and so is the kept content if the process is killed.
fn rewrite(log: &File, kept_from: u64, length: u64) -> io::Result<()> {
    let kept = read_part(log, kept_from, usize::try_from(length - kept_from).unwrap_or(usize::MAX))?;
    log.set_len(0)?;
    log.set_len(length)?;
    log.write_all_at(&kept.bytes, kept.offset)
}

/// Reserves space for `bytes` more of a log, so that they can be written even if the disk is full by then.
///
/// Errors: `StorageFull`, and whatever else the file system reports; none where it cannot reserve space.
pub fn reserve(path: &Path, bytes: u64) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let is_enough = |content: u64| found.blocks().saturating_mul(SECTOR_BYTES) >= content + bytes / 2 + BLOCK_BYTES;
    // At least half of it is left; the usual case, a log without a hole, costs one system call.
    if is_enough(found.len()) {
        return Ok(());
    }
    let log = existing_private_file(path)?;
    let content = found.len().saturating_sub(data_after(&log, 0, found.len())?);
    if is_enough(content) {
        return Ok(());
    }
    match fallocate(&log, FallocateFlags::KEEP_SIZE, found.len(), bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        done => Ok(done?),
    }
}

/// Gives back what is reserved of a log that no process appends to any more.
///
/// Errors: whatever the file system reports.
pub fn release(path: &Path) -> io::Result<()> {
    let log = existing_private_file(path)?;
    let length = log.metadata()?.len();
    // File systems free the blocks beyond the end of a file when its length is set.
    log.set_len(length)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::private_file::private_log;

    const MAX: u64 = 64 << 10;

    /// A log of `length` bytes in lines of eight, each with its number, and the folder that holds it.
    fn log_of(length: usize) -> (tempfile::TempDir, std::path::PathBuf, File) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serial.log");
        let mut log = private_log(&path).unwrap();
        let lines: Vec<String> = (0..length / 8).map(|number| format!("{number:07}\n")).collect();
        log.write_all(lines.concat().as_bytes()).unwrap();
        (folder, path, log)
    }

    fn space(path: &Path) -> u64 {
        fs::metadata(path).unwrap().blocks() * SECTOR_BYTES
    }

    #[test]
    fn test_bound_gives_space_back_and_keeps_positions() {
        let (_folder, path, mut log) = log_of(1 << 20);

        bound(&path, MAX).unwrap();
        log.write_all(b"the end\n").unwrap();

        assert!(space(&path) <= MAX, "{}", space(&path));
        let read = read_part(&File::open(&path).unwrap(), 0, 1 << 20).unwrap();
        assert_eq!(read.length, (1 << 20) + 8);
        assert_eq!(read.offset + read.bytes.len() as u64, read.length);
        assert!(read.bytes.len() as u64 >= MAX / 2, "{}", read.bytes.len());
        let first = format!("{:07}\n", read.offset / 8);
        assert!(read.bytes.starts_with(first.as_bytes()) && read.bytes.ends_with(b"the end\n"));
    }

    #[test]
    fn test_bound_log_within_limit_is_unchanged() {
        let (_folder, path, _log) = log_of(usize::try_from(MAX).unwrap());

        bound(&path, MAX).unwrap();

        let read = read_part(&File::open(&path).unwrap(), 0, 1 << 20).unwrap();
        assert_eq!((read.offset, read.bytes.len() as u64), (0, MAX));
    }

    #[test]
    fn test_bound_again_after_more_output_stays_within_limit() {
        let (_folder, path, mut log) = log_of(1 << 20);

        for _ in 0..8 {
            bound(&path, MAX).unwrap();
            log.write_all(&vec![b'x'; 40 << 10]).unwrap();
        }
        bound(&path, MAX).unwrap();

        assert!(space(&path) <= MAX, "{}", space(&path));
    }

    #[test]
    fn test_rewrite_keeps_newer_content_at_its_position() {
        let (_folder, path, mut log) = log_of(1 << 20);
        let kept_from = (1 << 20) - (32 << 10);

        rewrite(&existing_private_file(&path).unwrap(), kept_from, 1 << 20).unwrap();
        log.write_all(b"the end\n").unwrap();

        assert!(space(&path) <= MAX, "{}", space(&path));
        let read = read_part(&File::open(&path).unwrap(), kept_from, 1 << 20).unwrap();
        assert_eq!((read.offset, read.bytes.len()), (kept_from, (32 << 10) + 8));
        assert!(read.bytes.starts_with(format!("{:07}\n", kept_from / 8).as_bytes()));
    }

    #[test]
    fn test_reserve_takes_space_without_length_once() {
        let (_folder, path, _log) = log_of(800);

        reserve(&path, MAX).unwrap();
        let once = space(&path);
        reserve(&path, MAX).unwrap();

        assert!(once >= MAX, "{once}");
        assert_eq!((space(&path), fs::metadata(&path).unwrap().len()), (once, 800));
    }

    #[test]
    fn test_release_gives_reserved_space_back() {
        let (_folder, path, _log) = log_of(800);
        reserve(&path, MAX).unwrap();

        release(&path).unwrap();

        assert!(space(&path) <= BLOCK_BYTES, "{}", space(&path));
        assert_eq!(fs::metadata(&path).unwrap().len(), 800);
    }

    #[test]
    fn test_bound_symbolic_link_is_not_followed() {
        let (folder, path, _log) = log_of(1 << 20);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();

        let before = space(&path);
        let _ = bound(&link, 1);

        assert_eq!(space(&path), before);
    }
}
