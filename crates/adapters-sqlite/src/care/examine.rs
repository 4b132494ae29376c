//! All of a database read once, changing nothing.

use std::fs;
use std::path::Path;

use maqet_domain::port::{StoreError, StoreHealth};
use rusqlite::Connection;

use super::beside;
use crate::database::{Reader, patiently};
use crate::error::{explained, is_busy};
use crate::place::{Finding, Place};
use crate::{limits, read, schema};

const ACTION: &str = "examine the database";

/// Returns what is there, if all of it is sound; `None` where nothing is.
pub(super) fn examine(path: &Path) -> Result<Option<StoreHealth>, StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.exists()) {
        return Ok(None);
    }
    let place = Place::resolve(path)?;
    if place.look()? == Finding::Nothing {
        return Ok(None);
    }
    let explain = |error| explained(&place.given, ACTION, error);
    let reader = patiently(limits::PATIENCE, || Reader::open(&place)).map_err(explain)?;
    schema::judge(&place, reader.found)?;
    sound(&place, &reader.connection)?;
    let vms = if reader.found.version() == schema::newest() {
        all_vms(&place, &reader.connection)?
    } else {
        let count = reader.connection.query_row("SELECT count(*) FROM vm", [], |row| row.get::<_, i64>(0));
        count.map_err(explain)?.cast_unsigned()
    };
    let journal = reader.connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(explain)?;
    let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    Ok(Some(StoreHealth {
        schema: reader.found.version(),
        newest_schema: schema::newest(),
        journal,
        vms,
        bytes: size(&place.file) + size(&beside(&place.file, "-wal")),
        unwritable: unwritable(&reader),
    }))
}

/// Has SQLite compare every page, index and reference.
fn sound(place: &Place, connection: &Connection) -> Result<(), StoreError> {
    let explain = |error| explained(&place.given, ACTION, error);
    let check = format!("PRAGMA integrity_check({})", limits::PROBLEMS_TOLD);
    let verdicts = connection.prepare(&check).and_then(|mut statement| {
        let verdicts = statement.query_map([], |row| row.get(0))?;
        verdicts.collect::<Result<Vec<String>, _>>()
    });
    let verdicts = verdicts.map_err(explain)?;
    if verdicts.iter().any(|verdict| verdict != "ok") {
        return Err(place.corrupt(verdicts.join("; ")));
    }
    let mut astray = 0_u64;
    connection
        .pragma_query(None, "foreign_key_check", |_| {
            astray += 1;
            Ok(())
        })
        .map_err(explain)?;
    if astray > 0 {
        let subject = if astray == 1 { "1 row refers".to_owned() } else { format!("{astray} rows refer") };
        return Err(place.corrupt(format!("{subject} to a VM that is not there")));
    }
    Ok(())
}

/// Reads every VM as commands do: what SQLite takes for sound may still be no VM.
fn all_vms(place: &Place, connection: &Connection) -> Result<u64, StoreError> {
    let explain = |error| explained(&place.given, ACTION, error);
    let entries = read::entries(connection).map_err(explain)?;
    for entry in &entries {
        read::vm_by_id(connection, entry.id).map_err(explain)?;
        read::storage(connection, entry.id).map_err(explain)?;
    }
    Ok(entries.len() as u64)
}

/// Returns why nothing can be written, if so: asks for the right to write, and gives it back.
fn unwritable(reader: &Reader) -> Option<String> {
    if !reader.is_locked {
        return Some("its log cannot be made: there is no space, or no right to write to its folder".to_owned());
    }
    // SQLite takes what it may only read for that, and says so no sooner than at the first page it would write.
    if reader.connection.is_readonly("main").unwrap_or(false) {
        return Some("the file may only be read".to_owned());
    }
    match reader.connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK;") {
        Ok(()) => None,
        // Somebody else writes, so it can be written to.
        Err(error) if is_busy(&error) => None,
        Err(error) => Some(error.to_string()),
    }
}
