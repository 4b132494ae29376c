//! Checks a whole database without changing it.

use std::fs;
use std::path::Path;

use maqet_domain::port::{StoreError, StoreHealth};
use rusqlite::Connection;

use crate::database::Reader;
use crate::error::is_busy;
use crate::path::{DatabasePath, Presence};
use crate::retry::retry_while_busy;
use crate::{limits, read, schema};

const ACTION: &str = "check the database";

/// Returns the state of a valid database; `None` if there is none.
pub(super) fn check(path: &Path) -> Result<Option<StoreHealth>, StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // A directory that cannot be entered may hold one.
    if folder.is_some_and(|folder| matches!(folder.try_exists(), Ok(false))) {
        return Ok(None);
    }
    let path = DatabasePath::resolve(path)?;
    if path.presence()? == Presence::Absent {
        return Ok(None);
    }
    let failed = |error| path.sqlite_error(ACTION, error);
    let reader = retry_while_busy(limits::BUSY_TIMEOUT, || Reader::open(&path)).map_err(failed)?;
    let is_old = schema::needs_migration(&path, &reader.found)?;
    check_integrity(&path, &reader.connection)?;
    let vms = if is_old { count_vms(&reader.connection) } else { read_all_vms(&reader.connection) }.map_err(failed)?;
    let journal = reader.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(failed)?;
    let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    Ok(Some(StoreHealth {
        schema: reader.found.version(),
        newest_schema: schema::newest(),
        journal,
        vms,
        bytes: size(&path.file) + size(&path.beside("-wal")),
        unwritable: unwritable(&reader),
    }))
}

/// Checks every page, index and reference.
fn check_integrity(path: &DatabasePath, connection: &Connection) -> Result<(), StoreError> {
    let failed = |error| path.sqlite_error(ACTION, error);
    let pragma = format!("PRAGMA integrity_check({})", limits::MAX_REPORTED_PROBLEMS);
    let problems = connection.prepare(&pragma).and_then(|mut statement| {
        let problems = statement.query_map([], |row| row.get(0))?;
        problems.collect::<Result<Vec<String>, _>>()
    });
    let problems = problems.map_err(failed)?;
    if problems.iter().any(|problem| problem != "ok") {
        return Err(path.corrupt(problems.join("; ")));
    }
    let mut dangling = 0_u64;
    connection
        .pragma_query(None, "foreign_key_check", |_| {
            dangling += 1;
            Ok(())
        })
        .map_err(failed)?;
    match dangling {
        0 => Ok(()),
        1 => Err(path.corrupt("1 row refers to a missing VM")),
        _ => Err(path.corrupt(format!("{dangling} rows refer to missing VMs"))),
    }
}

/// Reads every VM as commands do, as valid rows may still hold invalid values.
fn read_all_vms(connection: &Connection) -> rusqlite::Result<u64> {
    let entries = read::entries(connection)?;
    for entry in &entries {
        read::vm_by_id(connection, entry.id)?;
        read::storage(connection, entry.id)?;
        read::snapshots(connection, entry.id)?;
    }
    Ok(entries.len() as u64)
}

fn count_vms(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM vm", [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// Returns why the database cannot be written, if it cannot: takes the write lock and releases it.
fn unwritable(reader: &Reader) -> Option<String> {
    if !reader.is_locked {
        return Some("its log cannot be created: no space, or no permission to write to its directory".to_owned());
    }
    // SQLite opens a read-only file without an error, and reports it at the first write only.
    if reader.connection.is_readonly("main").unwrap_or(false) {
        return Some("the file is read-only".to_owned());
    }
    match reader.connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK;") {
        Ok(()) => None,
        // Another process is writing, so it can be written.
        Err(error) if is_busy(&error) => None,
        Err(error) => Some(error.to_string()),
    }
}
