//! Backups: copies that SQLite makes of valid databases, and byte-for-byte copies of damaged ones.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use maqet_adapters_linux::atomic_file::AtomicFile;
use maqet_adapters_linux::private_file::{new_private_file, private_file};
use maqet_adapters_linux::stale_temporary_files;
use maqet_domain::port::StoreError;
use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, ValueRef};

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
    create_named(&folder_of(&path.file), true, |target| create_at(path, connection, target))
}

/// Has `create` make a backup in `folder` under a new name, and removes the oldest backups if it `rotates`.
pub(crate) fn create_named(
    folder: &Path,
    rotates: bool,
    create: impl Fn(&Path) -> Result<(), StoreError>,
) -> Result<PathBuf, StoreError> {
    make_folder(folder).map_err(|error| io_error(folder, error))?;
    // Of processes that were killed; the target of each has another time in its name.
    for stale in stale_temporary_files(folder) {
        let _not_critical = fs::remove_file(stale);
    }
    let mut names = names(folder, EXTENSION);
    let target = loop {
        let (target, is_last) = names.next_name();
        match create(&target) {
            Err(StoreError::BackupExists { .. }) if !is_last => {}
            created => break created.map(|()| target)?,
        }
    };
    if rotates {
        rotate(folder);
    }
    Ok(target)
}

/// Backs up the database that `connection` reads to a new file, which no other user can read.
///
/// The file appears under its name once it is complete and on disk.
pub(crate) fn create_at(path: &DatabasePath, connection: &Connection, target: &Path) -> Result<(), StoreError> {
    let exists = || StoreError::BackupExists { path: target.to_owned() };
    if target.symlink_metadata().is_ok() {
        return Err(exists());
    }
    // SQLite takes a name that begins with `file:` for a URI.
    let file = AtomicFile::create(&Path::new(".").join(target)).map_err(|error| io_error(target, error))?;
    // Any bytes, as a name need not be UTF-8.
    let temporary = ToSqlOutput::Borrowed(ValueRef::Text(file.temporary().as_os_str().as_bytes()));
    connection
        .execute("VACUUM INTO ?1", [temporary])
        .map_err(|error| path.sqlite_error("back up the database", error))?;
    file.publish().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(),
        _ => io_error(target, error),
    })
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
    newest_first(path).into_iter().next()
}

/// Returns the backups of a valid database, the newest first.
///
/// Older versions left an empty file if they were killed.
pub(crate) fn newest_first(path: &Path) -> Vec<PathBuf> {
    let mut found = all(&folder_of(path));
    found.retain(|backup| fs::metadata(backup).is_ok_and(|found| found.len() > 0));
    found.reverse();
    found
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
    make_folder(folder)?;
    let mut names = names(folder, extension);
    loop {
        let (path, is_last) = names.next_name();
        match new_private_file(&path) {
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !is_last => {}
            Err(error) => return Err(error),
        }
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Names with the time in them; after the first, with a number as well.
struct Names {
    start: PathBuf,
    extension: String,
    number: u32,
}

fn names(folder: &Path, extension: &str) -> Names {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ").to_string();
    Names { start: folder.join(format!("maqet-{now}")), extension: extension.to_owned(), number: 0 }
}

impl Names {
    /// Returns the next name, and whether it is the last one to be tried.
    fn next_name(&mut self) -> (PathBuf, bool) {
        let Self { extension, number, .. } = self;
        let suffix = if *number == 0 { format!(".{extension}") } else { format!("-{number}.{extension}") };
        *number += 1;
        (with_suffix(&self.start, &suffix), self.number > limits::MAX_BACKUP_NAMES)
    }
}

fn io_error(path: &Path, error: io::Error) -> StoreError {
    error::from_io(&path.display().to_string(), error)
}
