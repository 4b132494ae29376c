//! Creates a database: in memory first, then written as a whole file with mode 0600, never over an existing one.
//!
//! The file has no name until it is complete and on disk: a process that is killed leaves nothing behind, and of several
//! creators the first one wins and the others use its database.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use maqet_domain::port::StoreError;
use rusqlite::Connection;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, openat, renameat_with};
use rustix::io::Errno;

use crate::path::DatabasePath;
use crate::schema;

/// The bytes of the file header that select the journal mode (<https://sqlite.org/fileformat2.html#vnums>).
const JOURNAL_BYTES: std::ops::Range<usize> = 18..20;

/// Their value for a write-ahead log.
const WRITE_AHEAD_LOG: u8 = 2;

/// Creates the database, unless another process creates it first.
pub(crate) fn create(path: &DatabasePath) -> Result<(), StoreError> {
    let content = empty_content().map_err(|error| path.sqlite_error("create the database", error))?;
    let created = match write_unnamed(path, &content) {
        // Not every file system supports unnamed files.
        Err(error) if Errno::from_io_error(&error).is_some_and(|errno| UNNAMED_UNSUPPORTED.contains(&errno)) => {
            write_named(path, &content)
        }
        other => other,
    };
    match created {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|error| path.io_error(error))
}

const UNNAMED_UNSUPPORTED: [Errno; 4] = [Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL, Errno::NOENT];

/// Returns the content of an empty database with the newest schema.
pub(crate) fn empty_content() -> rusqlite::Result<Vec<u8>> {
    let mut connection = Connection::open_in_memory()?;
    schema::migrate(&mut connection)?;
    content_of(&mut connection)
}

/// Returns the content of a database, in the mode of a write-ahead log.
pub(crate) fn content_of(connection: &mut Connection) -> rusqlite::Result<Vec<u8>> {
    let mut bytes = connection.serialize("main")?.to_vec();
    // Set here because SQLite does not wait for other processes when it switches the mode.
    if let Some(journal) = bytes.get_mut(JOURNAL_BYTES) {
        journal.fill(WRITE_AHEAD_LOG);
    }
    Ok(bytes)
}

fn write_unnamed(path: &DatabasePath, content: &[u8]) -> io::Result<()> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(openat(CWD, &path.folder, flags, Mode::RUSR | Mode::WUSR)?);
    fill(&mut file, content)?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, unnamed, CWD, &path.file, AtFlags::SYMLINK_FOLLOW)?)
}

fn write_named(path: &DatabasePath, content: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = fill(&mut file, content).and_then(|()| {
        renameat_with(CWD, &temporary, CWD, &path.file, RenameFlags::NOREPLACE).map_err(io::Error::from)
    });
    if written.is_err() {
        let _not_critical = fs::remove_file(&temporary);
    }
    written
}

pub(crate) fn temporary_name(path: &DatabasePath) -> PathBuf {
    path.folder.join(format!(".tmp-{}", uuid::Uuid::new_v4().simple()))
}

pub(crate) fn fill(file: &mut File, content: &[u8]) -> io::Result<()> {
    // The umask may have removed permissions of the owner.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.sync_all()
}

pub(crate) fn sync_folder(path: &DatabasePath) -> io::Result<()> {
    File::open(&path.folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(folder: &tempfile::TempDir) -> DatabasePath {
        DatabasePath::resolve(&folder.path().join("maqet.db")).unwrap()
    }

    #[track_caller]
    fn check_whole_and_private(path: &DatabasePath) {
        assert_eq!(fs::metadata(&path.file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&path.folder).unwrap().count(), 1);
        let connection = Connection::open(&path.file).unwrap();
        let verdict: String = connection.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
        let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!((verdict.as_str(), journal.as_str()), ("ok", "wal"));
    }

    #[test]
    fn test_create_by_unnamed_file_is_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder);

        write_unnamed(&path, &empty_content().unwrap()).unwrap();

        check_whole_and_private(&path);
    }

    #[test]
    fn test_create_by_named_file_is_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder);

        write_named(&path, &empty_content().unwrap()).unwrap();

        check_whole_and_private(&path);
    }

    #[test]
    fn test_create_over_existing_file_leaves_it_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder);
        fs::write(&path.file, "theirs").unwrap();

        let unnamed = write_unnamed(&path, b"ours").unwrap_err();
        let named = write_named(&path, b"ours").unwrap_err();

        assert_eq!([unnamed.kind(), named.kind()], [io::ErrorKind::AlreadyExists; 2]);
        assert_eq!(fs::read(&path.file).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(&path.folder).unwrap().count(), 1);
    }
}
