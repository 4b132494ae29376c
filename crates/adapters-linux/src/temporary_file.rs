//! The names of temporary files, by which the files of killed processes are recognized.
//!
//! A temporary name begins with a dot and the name of the target, and identifies the process that writes the file.
//! `atomic_file` writes such files, `stale_files` finds those whose writer is gone.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::{fs, io};

use maqet_domain::vm::PidNamespace;

use crate::limits::STALE_FILE_AGE;
use crate::process::PidScope;

/// The longest file name on the file systems of Linux, in bytes.
pub(crate) const NAME_MAX: usize = 255;

/// Separates the name of the target from the writer in a temporary name.
const MARKER: &str = ".partial-";

/// The process that writes a temporary file: enough to determine whether it is still running.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    /// Where its process ID is valid, as [`short`] writes it.
    pub(crate) scope: String,
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
}

impl Writer {
    /// Returns this process, which is in `scope`.
    pub(crate) fn new(scope: &PidScope) -> Self {
        let process = scope.identify_self();
        Self { scope: short(scope), pid: process.pid, start_ticks: process.start_ticks }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '-');
        let scope = parts.next()?.to_owned();
        let pid = parts.next()?.parse().ok()?;
        let start_ticks = parts.next()?.parse().ok()?;
        parts.next()?;
        Some(Self { scope, pid, start_ticks })
    }

    /// Returns whether this process no longer writes the file at `path`.
    ///
    /// A writer from another boot may run on another host that has this folder mounted as well, and one of another PID
    /// namespace is not visible: then the age decides.
    pub(crate) fn has_abandoned(&self, path: &Path, scope: &PidScope) -> bool {
        if self.scope == short(scope) && scope.is_proc_own() {
            let found = scope.stat_of(self.pid);
            !found.is_some_and(|stat| stat.is_alive() && stat.start_ticks == self.start_ticks)
        } else {
            is_older_than_limit(path)
        }
    }
}

/// The PID namespace of the host itself (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_NAMESPACE: PidNamespace = PidNamespace(0xEFFF_FFFC);

/// Returns the scope as temporary names hold it: the first eight digits of the boot ID and, except for the namespace of
/// the host itself, a dot and the number of the PID namespace.
pub(crate) fn short(scope: &PidScope) -> String {
    let boot: String = scope.boot_id().0.chars().take(8).collect();
    match scope.namespace() {
        Some(namespace) if namespace != INITIAL_NAMESPACE => format!("{boot}.{}", namespace.0),
        Some(_) | None => boot,
    }
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
