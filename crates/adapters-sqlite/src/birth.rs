//! A new database: made in memory, written whole, private from the first moment, and never over another one.
//!
//! The file has no name until it is complete and on disk, so that whoever is killed half-way leaves nothing, and of
//! several creators the first one wins and the others find its database.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use maqet_domain::port::StoreError;
use rusqlite::Connection;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, openat, renameat_with};
use rustix::io::Errno;

use crate::error::{explained, unusable};
use crate::place::Place;
use crate::schema;

/// Where the header of a database says how it is written and read (<https://sqlite.org/fileformat2.html#vnums>).
const JOURNAL_BYTES: std::ops::Range<usize> = 18..20;

/// The value that means a write-ahead log.
const WRITE_AHEAD_LOG: u8 = 2;

/// Makes the database; that another process made it first is as good.
pub(crate) fn create(place: &Place) -> Result<(), StoreError> {
    let image = image().map_err(|error| explained(&place.given, "make a database", error))?;
    let made = match write_nameless(place, &image) {
        // Not every file system has files without a name.
        Err(error) if Errno::from_io_error(&error).is_some_and(|errno| NAMELESS_UNKNOWN.contains(&errno)) => {
            write_named(place, &image)
        }
        other => other,
    };
    match made {
        Ok(()) => sync_folder(place),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|error| unusable(&place.given, error))
}

const NAMELESS_UNKNOWN: [Errno; 4] = [Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL, Errno::NOENT];

/// Returns the bytes of an empty database of the newest schema.
pub(crate) fn image() -> rusqlite::Result<Vec<u8>> {
    let mut connection = Connection::open_in_memory()?;
    schema::migrate(&mut connection)?;
    bytes_of(&mut connection)
}

/// Returns the bytes of a database, as those of a file with a write-ahead log.
pub(crate) fn bytes_of(connection: &mut Connection) -> rusqlite::Result<Vec<u8>> {
    let mut bytes = connection.serialize("main")?.to_vec();
    // Born with its write-ahead log, the file spares us the switch, for which SQLite does not wait in turn.
    if let Some(journal) = bytes.get_mut(JOURNAL_BYTES) {
        journal.fill(WRITE_AHEAD_LOG);
    }
    Ok(bytes)
}

fn write_nameless(place: &Place, image: &[u8]) -> io::Result<()> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(openat(CWD, &place.folder, flags, Mode::RUSR | Mode::WUSR)?);
    fill(&mut file, image)?;
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, nameless, CWD, &place.file, AtFlags::SYMLINK_FOLLOW)?)
}

fn write_named(place: &Place, image: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(place);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = fill(&mut file, image).and_then(|()| {
        renameat_with(CWD, &temporary, CWD, &place.file, RenameFlags::NOREPLACE).map_err(io::Error::from)
    });
    if written.is_err() {
        let _gone_already = fs::remove_file(&temporary);
    }
    written
}

pub(crate) fn temporary_name(place: &Place) -> PathBuf {
    place.folder.join(format!(".tmp-{}", uuid::Uuid::new_v4().simple()))
}

pub(crate) fn fill(file: &mut File, image: &[u8]) -> io::Result<()> {
    // The umask may have taken away what the owner needs.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(image)?;
    file.sync_all()
}

pub(crate) fn sync_folder(place: &Place) -> io::Result<()> {
    File::open(&place.folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &tempfile::TempDir) -> Place {
        Place::resolve(&folder.path().join("maqet.db")).unwrap()
    }

    #[track_caller]
    fn check_whole_and_private(place: &Place) {
        assert_eq!(fs::metadata(&place.file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 1);
        let connection = Connection::open(&place.file).unwrap();
        let verdict: String = connection.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
        let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!((verdict.as_str(), journal.as_str()), ("ok", "wal"));
    }

    #[test]
    fn test_create_nameless_file_appears_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder);

        write_nameless(&place, &image().unwrap()).unwrap();

        check_whole_and_private(&place);
    }

    #[test]
    fn test_create_without_nameless_files_appears_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder);

        write_named(&place, &image().unwrap()).unwrap();

        check_whole_and_private(&place);
    }

    #[test]
    fn test_create_over_another_database_leaves_it_and_no_rest() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder);
        fs::write(&place.file, "somebody's").unwrap();

        let nameless = write_nameless(&place, b"ours").unwrap_err();
        let named = write_named(&place, b"ours").unwrap_err();

        assert_eq!([nameless.kind(), named.kind()], [io::ErrorKind::AlreadyExists; 2]);
        assert_eq!(fs::read(&place.file).unwrap(), b"somebody's");
        assert_eq!(fs::read_dir(&place.folder).unwrap().count(), 1);
    }
}
