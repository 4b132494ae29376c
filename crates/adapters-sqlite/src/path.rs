//! The path of a database, and the state of the file before SQLite opens it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use maqet_domain::port::{MoveMark, StoreError};

use crate::{error, limits};

/// The folder of backups, beside the database.
pub(crate) const BACKUPS: &str = "backups";

/// Whether there is a file at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// A file that may be a database.
    Present,
    /// No file: a database can be created.
    Absent,
}

/// Where a database is: its folder resolved, its file name taken literally.
#[derive(Debug, Clone)]
pub(crate) struct DatabasePath {
    /// The path as the caller wrote it, for messages.
    pub(crate) location: String,
    /// The folder, without symbolic links.
    pub(crate) folder: PathBuf,
    /// The file in that folder.
    pub(crate) file: PathBuf,
}

/// What changes on disk with every write to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WriteStamp {
    file: Option<(u64, i64, i64, u64)>,
    log: u64,
}

impl DatabasePath {
    /// Resolves the folder of `path`; a missing folder is created with mode 0700.
    pub(crate) fn resolve(path: &Path) -> Result<Self, StoreError> {
        let location = path.display().to_string();
        let failed = |error| error::from_io(&location, error);
        let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) | None => Path::new("."),
        };
        let folder = match fs::canonicalize(parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let created = DirBuilder::new().recursive(true).mode(0o700).create(parent);
                created.and_then(|()| fs::canonicalize(parent))
            }
            resolved => resolved,
        };
        let folder = folder.map_err(failed)?;
        let file = folder.join(name);
        Ok(Self { location, folder, file })
    }

    /// Returns whether there is a file that SQLite may open.
    ///
    /// Errors: `Unavailable` for a symbolic link or anything but a regular file; `Corrupt` for an empty file, or for a
    /// write-ahead log without its database.
    pub(crate) fn presence(&self) -> Result<Presence, StoreError> {
        for _ in 0..limits::MAX_PATH_CHECKS {
            match fs::symlink_metadata(&self.file) {
                Ok(found) if found.is_symlink() => return Err(self.unavailable("it is a symbolic link")),
                Ok(found) if !found.is_file() => return Err(self.unavailable("it is not a regular file")),
                Ok(found) if found.len() == 0 => return Err(self.corrupt("the file is empty")),
                Ok(_) => return Ok(Presence::Present),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.io_error(error)),
                Err(_) if !self.has_log() => return Ok(Presence::Absent),
                // Another process may have created the database just now.
                Err(_) => {}
            }
        }
        Err(self.corrupt("the file is missing, but its write-ahead log exists"))
    }

    /// Returns the path of a file that SQLite keeps beside the database.
    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        with_suffix(&self.file, suffix)
    }

    /// Returns whether there is a write-ahead log with content.
    pub(crate) fn has_log(&self) -> bool {
        self.log_len() > 0
    }

    /// Returns the write stamp; two equal ones mean that there was no write in between.
    pub(crate) fn write_stamp(&self) -> WriteStamp {
        let file = fs::symlink_metadata(&self.file).ok();
        let file = file.map(|found| (found.ino(), found.mtime(), found.mtime_nsec(), found.len()));
        WriteStamp { file, log: self.log_len() }
    }

    /// Returns the URI that opens the file as one that does not change.
    pub(crate) fn immutable_uri(&self) -> String {
        let escaped = self.file.as_os_str().as_bytes().iter().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => char::from(*byte).to_string(),
            _ => format!("%{byte:02X}"),
        });
        format!("file:{}?immutable=1", escaped.collect::<String>())
    }

    /// Converts an error of SQLite, met while doing `action`.
    pub(crate) fn sqlite_error(&self, action: &'static str, error: rusqlite::Error) -> StoreError {
        error::from_sqlite(&self.location, action, error)
    }

    /// Converts an error of the file system.
    pub(crate) fn io_error(&self, error: io::Error) -> StoreError {
        error::from_io(&self.location, error)
    }

    /// Returns the error for a damaged file.
    pub(crate) fn corrupt(&self, detail: impl Into<String>) -> StoreError {
        StoreError::Corrupt { location: self.location.clone(), detail: detail.into() }
    }

    /// Returns the error for a schema that this version does not support.
    pub(crate) fn unsupported_schema(&self, found: i64, known: i64) -> StoreError {
        StoreError::UnsupportedSchema { location: self.location.clone(), found, known }
    }

    /// Returns the error for a database with a part in a move.
    pub(crate) fn marked(&self, mark: &MoveMark) -> StoreError {
        mark.error(&self.location)
    }

    /// Returns the error for a database that holds something, although it is to be filled.
    pub(crate) fn not_empty(&self) -> StoreError {
        StoreError::NotEmpty { location: self.location.clone() }
    }

    /// Returns the error for a database that another process keeps locked.
    pub(crate) fn busy(&self) -> StoreError {
        StoreError::Busy { location: self.location.clone() }
    }

    fn unavailable(&self, reason: &'static str) -> StoreError {
        self.io_error(io::Error::other(reason))
    }

    fn log_len(&self) -> u64 {
        fs::symlink_metadata(self.beside("-wal")).map_or(0, |found| found.len())
    }
}

/// Returns `path` with `suffix` appended to its name.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_immutable_uri_escapes_special_characters() {
        let file = PathBuf::from("/a b/ü?#%.db");
        let path = DatabasePath { location: String::new(), folder: PathBuf::from("/a b"), file };

        assert_eq!(path.immutable_uri(), "file:/a%20b/%C3%BC%3F%23%25.db?immutable=1");
    }
}
