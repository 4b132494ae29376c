//! When a commit reaches the disk, and with how few waits for it.
//!
//! A commit that is the first in an empty write-ahead log would cost SQLite five of them by the time the process has
//! closed the database: for the header of the log, its folder, its content, and again for the log and the database when
//! it moves the one into the other. While the log is empty there is nothing that its header could be mistaken for, so
//! that SQLite may write the commit without waiting; moving it into the database then syncs each of the log, its folder
//! and the database once. A mark needs none of these, because it means nothing after a loss of power.

use std::fs::File;
use std::io;

use maqet_domain::change::ChangeSet;
use maqet_fault_points::FaultPoints;
use rusqlite::{Connection, Result};

use crate::path::DatabasePath;
use crate::write::{self, WriteError};

/// Makes commits durable, whatever SQLite was built with and in whatever mode the file was restored.
///
/// Returns whether the database has a write-ahead log.
pub(crate) fn make_durable(connection: &Connection) -> Result<bool> {
    set_synchronous(connection, Synchronous::Full)?;
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode == "wal" {
        return Ok(true);
    }
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| Ok(row.get::<_, String>(0)? == "wal"))
}

/// How a commit was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// It survives a loss of power.
    Durably,
    /// It survives the end of this process only.
    Unsynced,
}

/// Writes all of `changes` or nothing, to a database with a write-ahead log.
pub(crate) fn apply(
    connection: &mut Connection,
    path: &DatabasePath,
    changes: &ChangeSet,
    faults: &FaultPoints,
) -> std::result::Result<Written, WriteError> {
    if !path.has_log() && apply_to_empty_log(connection, path, changes, faults)? {
        return Ok(Written::Unsynced);
    }
    write::apply(connection, changes, faults, || true)?;
    Ok(Written::Durably)
}

/// Makes a commit durable that was written to an empty log.
///
/// Errors: whatever the file system reports.
pub(crate) fn sync(connection: &Connection, path: &DatabasePath) -> io::Result<()> {
    if is_moved(connection) {
        return Ok(());
    }
    // Another process reads the database or moves its log. No lock of SQLite is on the log itself, so that closing it
    // releases none.
    File::open(path.beside("-wal"))?.sync_data()?;
    File::open(&path.folder)?.sync_data()
}

/// Moves the content of the log into the database, and returns whether that is all there and synced.
fn is_moved(connection: &Connection) -> bool {
    let state = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        let (is_busy, frames, moved): (bool, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(!is_busy && frames > 0 && frames == moved)
    });
    state.unwrap_or(false)
}

/// Writes without waiting for the disk, unless the log has content by then; returns whether it wrote.
fn apply_to_empty_log(
    connection: &mut Connection,
    path: &DatabasePath,
    changes: &ChangeSet,
    faults: &FaultPoints,
) -> std::result::Result<bool, WriteError> {
    set_synchronous(connection, Synchronous::Off)?;
    // Where older content were overwritten without waiting, a loss of power could bring parts of it back.
    let is_written = write::apply(connection, changes, faults, || !path.has_log());
    set_synchronous(connection, Synchronous::Full)?;
    is_written
}

/// Whether SQLite waits until what it writes is on the disk.
#[derive(Debug, Clone, Copy)]
enum Synchronous {
    Off,
    Full,
}

fn set_synchronous(connection: &Connection, synchronous: Synchronous) -> Result<()> {
    let value = match synchronous {
        Synchronous::Off => "OFF",
        Synchronous::Full => "FULL",
    };
    connection.pragma_update(None, "synchronous", value)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use maqet_domain::change::Change;
    use maqet_domain::vm::{Phase, VmEntry};
    use maqet_testkit::store::sample;

    use super::*;
    use crate::Options;
    use crate::database::LazyDatabase;

    /// A store with one VM that no process has open, and what marks that VM as starting.
    fn closed_store() -> (tempfile::TempDir, LazyDatabase, VmEntry, ChangeSet) {
        let folder = tempfile::tempdir().unwrap();
        let mut database = LazyDatabase::new(folder.path().join("maqet.db"), Options::default());
        let vm = sample::vm("web", 1);
        database.get().unwrap().commit(&sample::adding(&vm)).unwrap();
        database.close();
        let entry = vm.entry;
        let run = sample::run(1, Phase::Starting);
        let mark = Change::RunChanged { id: entry.id, expected: entry.revision, run: Some(run) };
        (folder, database, entry, ChangeSet::default().and(mark))
    }

    /// Returns the number of rows in `table` of the database file alone, as it is without its log.
    fn rows_in_file(folder: &tempfile::TempDir, count: &str) -> i64 {
        let copy = folder.path().join("copy.db");
        fs::copy(folder.path().join("maqet.db"), &copy).unwrap();
        let count = Connection::open(&copy).unwrap().query_row(count, [], |row| row.get(0)).unwrap();
        fs::remove_file(copy).unwrap();
        count
    }

    const VMS: &str = "SELECT count(*) FROM vm";
    const STARTING: &str = "SELECT count(*) FROM vm WHERE phase = 'starting'";

    #[test]
    fn test_commit_to_empty_log_is_in_the_database_file() {
        let (folder, mut database, ..) = closed_store();

        database.get().unwrap().commit(&sample::adding(&sample::vm("db", 2))).unwrap();

        assert_eq!(rows_in_file(&folder, VMS), 2);
    }

    #[test]
    fn test_commit_to_log_with_content_stays_in_the_log() {
        let (folder, mut database, _, mark) = closed_store();
        database.get().unwrap().commit(&mark).unwrap();

        database.get().unwrap().commit(&sample::adding(&sample::vm("db", 2))).unwrap();

        assert_eq!(rows_in_file(&folder, VMS), 1);
    }

    #[test]
    fn test_mark_is_visible_at_once_and_only_in_the_log() {
        let (folder, mut database, _, mark) = closed_store();

        database.get().unwrap().commit(&mark).unwrap();

        let other = Connection::open(folder.path().join("maqet.db")).unwrap();
        assert_eq!(other.query_row(STARTING, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
        assert_eq!(rows_in_file(&folder, STARTING), 0);
    }

    #[test]
    fn test_commit_while_another_reads_is_written_to_the_log() {
        let (folder, mut database, ..) = closed_store();
        let reader = Connection::open(folder.path().join("maqet.db")).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        let before: i64 = reader.query_row(VMS, [], |row| row.get(0)).unwrap();

        database.get().unwrap().commit(&sample::adding(&sample::vm("db", 2))).unwrap();

        let after: i64 = reader.query_row(VMS, [], |row| row.get(0)).unwrap();
        assert_eq!((before, after, rows_in_file(&folder, VMS)), (1, 1, 1));
    }

    #[test]
    fn test_apply_later_commits_wait_for_the_disk() {
        let (folder, .., entry, mark) = closed_store();
        let path = DatabasePath::resolve(&folder.path().join("maqet.db")).unwrap();
        let mut connection = Connection::open(&path.file).unwrap();
        assert!(make_durable(&connection).unwrap());
        let mut apply = |changes: &ChangeSet| {
            let written = apply(&mut connection, &path, changes, &FaultPoints::default());
            let synchronous = connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0)).unwrap();
            (written.map_err(|_| ()), synchronous)
        };

        let first = apply(&mark);
        let refused = apply(&mark);
        let removal = Change::VmRemoved { id: entry.id, expected: entry.revision.next() };
        let second = apply(&ChangeSet::default().and(removal));

        assert_eq!(first, (Ok(Written::Unsynced), 2));
        assert_eq!(refused, (Err(()), 2));
        assert_eq!(second, (Ok(Written::Durably), 2));
    }
}
