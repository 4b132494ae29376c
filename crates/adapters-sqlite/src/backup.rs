//! Backups: copies that SQLite makes of valid databases, and byte-for-byte copies of damaged ones.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use maqet_adapters_linux::private_file::{new_private_file, private_file};
use maqet_domain::port::StoreError;
use rusqlite::Connection;

use crate::path::{BACKUPS, DatabasePath, with_suffix};
use crate::{error, limits};

/// The extension of backups of valid databases.
const EXTENSION: &str = "db";

/// The extension of copies of damaged databases, which are never removed automatically.
const DAMAGED_EXTENSION: &str = "damaged";

/// Returns the folder of the backups of the database at `path`.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    path.with_file_name(BACKUPS)
}

/// Backs up the database that `connection` reads, and removes the oldest backups.
pub(crate) fn create(path: &DatabasePath, connection: &Connection) -> Result<PathBuf, StoreError> {
    let folder = folder_of(&path.file);
    let target = reserve(&folder, EXTENSION).map_err(|error| io_error(&folder, error))?;
    copy_into(path, connection, &target)?;
    rotate(&folder);
    Ok(target)
}

/// Backs up the database that `connection` reads to a new file, which no other user can read.
pub(crate) fn create_at(path: &DatabasePath, connection: &Connection, target: &Path) -> Result<(), StoreError> {
    match new_private_file(target) {
        Ok(_) => copy_into(path, connection, target),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(StoreError::BackupExists { path: target.to_owned() })
        }
        Err(error) => Err(io_error(target, error)),
    }
}

/// Copies the database into an empty file, which is removed if that fails.
fn copy_into(path: &DatabasePath, connection: &Connection, target: &Path) -> Result<(), StoreError> {
    let copied = connection
        .execute("VACUUM INTO ?1", [target.to_string_lossy()])
        .map_err(|error| path.sqlite_error("back up the database", error))
        .and_then(|_| File::open(target).and_then(|file| file.sync_all()).map_err(|error| io_error(target, error)));
    if copied.is_err() {
        let _not_critical = fs::remove_file(target);
    }
    copied
}

/// Copies the files of a damaged database byte for byte; returns the copies.
pub(crate) fn keep_damaged(path: &DatabasePath) -> Result<Vec<PathBuf>, StoreError> {
    let target = reserve(&folder_of(&path.file), DAMAGED_EXTENSION).map_err(|error| path.io_error(error))?;
    let mut kept = Vec::new();
    for suffix in ["", "-wal"] {
        let to = with_suffix(&target, suffix);
        match copy(&path.beside(suffix), &to) {
            Ok(()) => kept.push(to),
            // Either the database or its log may be missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _was_reserved = fs::remove_file(&to);
            }
            Err(error) => {
                for incomplete in kept.iter().chain([&to]) {
                    let _not_critical = fs::remove_file(incomplete);
                }
                return Err(path.io_error(error));
            }
        }
    }
    Ok(kept)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut to = private_file(to)?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

/// Returns the newest backup of a valid database.
pub(crate) fn newest(path: &Path) -> Option<PathBuf> {
    all(&folder_of(path)).pop()
}

/// Returns the backups, the oldest first: their names hold the time.
fn all(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_backup = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("maqet-"))
            && path.extension().is_some_and(|extension| extension == EXTENSION)
    };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_backup).collect();
    found.sort();
    found
}

fn rotate(folder: &Path) {
    let all = all(folder);
    for oldest in all.iter().take(all.len().saturating_sub(limits::MAX_BACKUPS)) {
        let _not_critical = fs::remove_file(oldest);
    }
}

/// Creates an empty file with the time in its name, and the folder if it is missing.
fn reserve(folder: &Path, extension: &str) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string();
    let mut number = 0;
    loop {
        let suffix = if number == 0 { String::new() } else { format!("-{number}") };
        let path = folder.join(format!("maqet-{now}{suffix}.{extension}"));
        match new_private_file(&path) {
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < limits::MAX_BACKUP_NAMES => {
                number += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn io_error(path: &Path, error: io::Error) -> StoreError {
    error::from_io(&path.display().to_string(), error)
}
