//! What lies at the path of a database before SQLite sees it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use maqet_domain::port::StoreError;

use crate::error::unusable;
use crate::limits;

/// What was found at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A file that may be a database.
    Something,
    /// Nothing: a database can be made.
    Nothing,
}

/// Where a database is: its folder resolved, its own name taken literally.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// As the caller named it, for messages.
    pub(crate) given: PathBuf,
    /// The folder, without symbolic links.
    pub(crate) folder: PathBuf,
    /// The file in that folder.
    pub(crate) file: PathBuf,
}

/// What changes on disk when somebody writes to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    file: Option<(u64, i64, i64, u64)>,
    log: u64,
}

impl Place {
    /// Resolves the folder of `given`, making it private where it is missing.
    pub(crate) fn resolve(given: &Path) -> Result<Self, StoreError> {
        let name = given.file_name().ok_or_else(|| unusable(given, io::ErrorKind::InvalidFilename.into()))?;
        let parent = match given.parent() {
            Some(parent) if parent != Path::new("") => parent,
            Some(_) | None => Path::new("."),
        };
        let folder = fs::canonicalize(parent)
            .or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
                    fs::canonicalize(parent)
                }
                _ => Err(error),
            })
            .map_err(|error| unusable(given, error))?;
        let file = folder.join(name);
        Ok(Self { given: given.to_owned(), folder, file })
    }

    /// Looks at what is there.
    pub(crate) fn look(&self) -> Result<Finding, StoreError> {
        for _ in 0..limits::LOOKS {
            match fs::symlink_metadata(&self.file) {
                Ok(found) if found.is_symlink() => return Err(self.refused("it is a symbolic link")),
                Ok(found) if !found.is_file() => return Err(self.refused("it is not a file")),
                Ok(found) if found.len() == 0 => return Err(self.corrupt("it is empty")),
                Ok(_) => return Ok(Finding::Something),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(&self.given, error)),
                Err(_) if !self.has_log() => return Ok(Finding::Nothing),
                // Somebody may just have created the database and begun to write.
                Err(_) => {}
            }
        }
        Err(self.corrupt("it is gone, and its write-ahead log is still there"))
    }

    /// Returns whether there is a write-ahead log that holds anything.
    pub(crate) fn has_log(&self) -> bool {
        self.log_len() > 0
    }

    /// Returns the traces of writing; two equal ones mean that nobody wrote in between.
    pub(crate) fn stamp(&self) -> Stamp {
        let file = fs::symlink_metadata(&self.file).ok();
        Stamp { file: file.map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len())), log: self.log_len() }
    }

    /// Returns the URI by which SQLite reads the file as one that nobody changes.
    pub(crate) fn immutable_uri(&self) -> String {
        let escaped = self.file.as_os_str().as_bytes().iter().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => char::from(*byte).to_string(),
            _ => format!("%{byte:02X}"),
        });
        format!("file:{}?immutable=1", escaped.collect::<String>())
    }

    /// Makes the error for a file that is damaged.
    pub(crate) fn corrupt(&self, detail: impl Into<String>) -> StoreError {
        StoreError::Corrupt { path: self.given.clone(), detail: detail.into() }
    }

    fn refused(&self, why: &'static str) -> StoreError {
        StoreError::Unavailable { path: self.given.clone(), source: io::Error::other(why).into() }
    }

    fn log_len(&self) -> u64 {
        let mut name = OsString::from(&self.file);
        name.push("-wal");
        fs::symlink_metadata(PathBuf::from(name)).map_or(0, |meta| meta.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_place_immutable_uri_escapes_what_a_uri_reads() {
        let file = PathBuf::from("/a b/ü?#%.db");
        let place = Place { given: file.clone(), folder: PathBuf::from("/a b"), file };

        assert_eq!(place.immutable_uri(), "file:/a%20b/%C3%BC%3F%23%25.db?immutable=1");
    }
}
