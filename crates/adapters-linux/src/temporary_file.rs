//! The names of temporary files, by which the files of killed processes are recognized.
//!
//! A temporary name begins with a dot and the name of the target, and identifies the process that writes the file.
//! `atomic_file` writes such files, `stale_files` finds those whose writer is gone.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::{fs, io};

use maqet_domain::vm::BootId;

use crate::limits::STALE_FILE_AGE;
use crate::process::{boot_id, identify, read_stat};

/// The longest file name on the file systems of Linux, in bytes.
pub(crate) const NAME_MAX: usize = 255;

/// Separates the name of the target from the writer in a temporary name.
const MARKER: &str = ".partial-";

/// The process that writes a temporary file: enough to determine whether it is still running.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    /// The first eight digits of the boot ID.
    pub(crate) boot: String,
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
}

impl Writer {
    pub(crate) fn current() -> io::Result<Self> {
        let process = identify(std::process::id()).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { boot: short(&process.boot_id), pid: process.pid, start_ticks: process.start_ticks })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '-');
        let boot = parts.next()?.to_owned();
        let pid = parts.next()?.parse().ok()?;
        let start_ticks = parts.next()?.parse().ok()?;
        parts.next()?;
        Some(Self { boot, pid, start_ticks })
    }

    /// Returns whether this process no longer writes the file at `path`; `boot` is from [`current_boot`].
    ///
    /// A writer from another boot may run on another host that has this folder mounted as well: then the age decides.
    pub(crate) fn has_abandoned(&self, path: &Path, boot: &str) -> bool {
        if self.boot == boot {
            !read_stat(self.pid).is_some_and(|stat| stat.is_alive() && stat.start_ticks == self.start_ticks)
        } else {
            is_older_than_limit(path)
        }
    }
}

/// Returns the present boot as temporary names hold it.
pub(crate) fn current_boot() -> String {
    short(&boot_id())
}

fn short(boot: &BootId) -> String {
    boot.0.chars().take(8).collect()
}

/// Returns whether a temporary file whose writer cannot be checked is stale.
pub(crate) fn is_older_than_limit(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > STALE_FILE_AGE))
}

/// Returns a temporary name for `target`, whose stem is cut so that `tail` fits behind it.
pub(crate) fn temporary_name(target: &Path, tail: &str) -> io::Result<OsString> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.as_bytes();
    let room = NAME_MAX.saturating_sub(1 + MARKER.len() + tail.len());
    let stem = &name[..name.len().min(room)];
    Ok(OsString::from_vec([b".", stem, MARKER.as_bytes(), tail.as_bytes()].concat()))
}

/// Parses a temporary name: the stem of its target, and its writer.
pub(crate) fn parse_temporary_name(name: &OsStr) -> Option<(&[u8], Writer)> {
    let name = name.as_bytes().strip_prefix(b".")?;
    let at = name.windows(MARKER.len()).rposition(|part| part == MARKER.as_bytes())?;
    let tail = std::str::from_utf8(&name[at + MARKER.len()..]).ok()?;
    Some((&name[..at], Writer::parse(tail)?))
}
