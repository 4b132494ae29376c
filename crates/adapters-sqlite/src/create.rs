//! Creates a database: in memory first, then as a complete file with mode 0600, never over an existing one.

use std::io::{self, Write};

use maqet_adapters_linux::atomic_file::AtomicFile;
use maqet_domain::port::StoreError;
use rusqlite::Connection;

use crate::path::DatabasePath;
use crate::schema;

/// The bytes of the file header that select the journal mode (<https://sqlite.org/fileformat2.html#vnums>).
const JOURNAL_BYTES: std::ops::Range<usize> = 18..20;

/// Their value for a write-ahead log.
const WRITE_AHEAD_LOG: u8 = 2;

/// Creates the database, unless another process creates it first.
pub(crate) fn create(path: &DatabasePath) -> Result<(), StoreError> {
    let content = empty_content().map_err(|error| path.sqlite_error("create the database", error))?;
    match new_file(path, &content).and_then(AtomicFile::publish) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(path.io_error(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a database under a temporary name.
pub(crate) fn new_file(path: &DatabasePath, content: &[u8]) -> io::Result<AtomicFile> {
    let mut file = AtomicFile::create(&path.file)?;
    file.write_all(content)?;
    Ok(file)
}

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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn path(folder: &tempfile::TempDir) -> DatabasePath {
        DatabasePath::resolve(&folder.path().join("maqet.db")).unwrap()
    }

    #[test]
    fn test_create_new_database_is_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder);

        create(&path).unwrap();

        assert_eq!(fs::metadata(&path.file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&path.folder).unwrap().count(), 1);
        let connection = Connection::open(&path.file).unwrap();
        let verdict: String = connection.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
        let journal: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!((verdict.as_str(), journal.as_str()), ("ok", "wal"));
    }

    #[test]
    fn test_create_over_existing_file_leaves_it_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder);
        fs::write(&path.file, "theirs").unwrap();

        create(&path).unwrap();

        assert_eq!(fs::read(&path.file).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(&path.folder).unwrap().count(), 1);
    }
}
