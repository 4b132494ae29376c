//! Repairs a damaged database: builds a new one in memory and puts it in place of the old file.
//!
//! The steps, in this order; the old files stay untouched until the last one, so that a repair that fails or is killed
//! can be repeated:
//!
//! | step | does |
//! | --- | --- |
//! | [`require_damage`] | refuses links, newer schemas and databases of other programs |
//! | [`lock_folder`] | keeps a second repair out; if one was faster, there is nothing to do |
//! | [`backup::keep_damaged`] | copies the damaged files byte for byte into the backups |
//! | [`Rebuild::new`] | creates the new database in memory |
//! | [`take_rows`] | takes every row of the old database that can be read |
//! | [`remove_invalid_vms`] | removes VMs that cannot be parsed; a missing definition is taken from the copy |
//! | [`add_copies`] | adds VMs and storage records that are known by their copies |
//! | [`fill_from_backup`] | takes lost rows of the history, events and snapshots from the newest intact backup; VMs if there are no copies |
//! | [`schema::rename_stored_values`] | converts rows that an older maqet wrote |
//! | [`remove_invalid_rows`] | removes rows that refer to nothing or cannot be parsed |
//! | [`replace`] | writes the new database to disk and renames it over the old one |

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use maqet_adapters_linux::private_file::unless_missing;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::event::kind;
use maqet_domain::history::HistoryQuery;
use maqet_domain::port::{RecoverySource, RepairReport, StoreError, VmCopy};
use maqet_domain::vm::{VmEntry, VmId};
use maqet_fault_points::FaultPoints;
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::check::check;
use super::salvage::{SNAPSHOT, Table, TableContent, WorkCopy, open_backup, read_table, tables};
use crate::column::path_value;
use crate::database::{Reader, require_safe_sqlite};
use crate::path::DatabasePath;
use crate::{backup, create, read, schema, write};

/// A database that is being rebuilt in memory.
struct Rebuild {
    connection: Connection,
    tables: Vec<Table>,
    /// The tables that may lack rows.
    damaged: HashSet<String>,
    /// What could not be saved.
    lost: Vec<String>,
}

/// Repairs the database at `path`; `known` are the VMs of which there are copies.
pub(super) fn repair(path: &Path, known: &[VmCopy]) -> Result<RepairReport, StoreError> {
    require_safe_sqlite()?;
    let path = &DatabasePath::resolve(path)?;
    let failed = |error| path.sqlite_error("repair the database", error);
    require_damage(path)?;
    let _lock = lock_folder(path)?;
    if check(&path.file).is_ok_and(|health| health.is_some()) {
        return Ok(RepairReport::default());
    }
    let damaged_copies = backup::keep_damaged(path)?;
    let mut rebuild = Rebuild::new().map_err(failed)?;

    take_rows(&mut rebuild, path, known)?;
    let read = vm_ids(&rebuild.connection).map_err(failed)?;
    remove_invalid_vms(&mut rebuild, known).map_err(failed)?;
    add_copies(&mut rebuild, known).map_err(failed)?;
    let copied = vm_ids(&rebuild.connection).map_err(failed)?;
    fill_from_backup(&mut rebuild, &path.file, known.is_empty()).map_err(failed)?;
    schema::rename_stored_values(&rebuild.connection).map_err(failed)?;
    remove_invalid_rows(&mut rebuild).map_err(failed)?;

    let origin = |entry: &VmEntry| match entry.id {
        id if read.contains(&id) => RecoverySource::Database,
        id if copied.contains(&id) => RecoverySource::Copy,
        _ => RecoverySource::Backup,
    };
    let entries = read::entries(&rebuild.connection).map_err(failed)?;
    let vms = entries.iter().map(|entry| (entry.id, entry.name.to_string(), origin(entry))).collect();
    let log_entries = count_log_entries(&rebuild.connection).map_err(failed)?;
    let content = create::content_of(&mut rebuild.connection).map_err(failed)?;
    replace(path, &content).map_err(|error| path.io_error(error))?;
    Ok(RepairReport { damaged_copies, vms, log_entries, lost: rebuild.lost })
}

/// Refuses a symbolic link, a folder, a database of another program, a newer schema, and a part in a move.
fn require_damage(path: &DatabasePath) -> Result<(), StoreError> {
    match path.presence() {
        Ok(_) | Err(StoreError::Corrupt { .. }) => {}
        Err(other) => return Err(other),
    }
    let Ok(reader) = Reader::open(path) else { return Ok(()) };
    match schema::needs_migration(path, &reader.found) {
        Err(
            other @ (StoreError::UnsupportedSchema { .. }
            | StoreError::Moved { .. }
            | StoreError::MoveUnfinished { .. }),
        ) => Err(other),
        Err(foreign) if reader.found.is_foreign() && has_only_foreign_tables(&reader.connection) => Err(foreign),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn has_only_foreign_tables(connection: &Connection) -> bool {
    let sql = "SELECT count(*) > 0 AND NOT max(name = 'vm') FROM sqlite_schema WHERE type = 'table'";
    connection.query_row(sql, [], |row| row.get(0)).unwrap_or(false)
}

/// Takes the lock of the folder, which leaves no file behind.
fn lock_folder(path: &DatabasePath) -> Result<File, StoreError> {
    let folder = File::open(&path.folder).map_err(|error| path.io_error(error))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(path.busy()),
        Err(TryLockError::Error(error)) => Err(path.io_error(error)),
    }
}

impl Rebuild {
    fn new() -> rusqlite::Result<Self> {
        let mut connection = Connection::open_in_memory()?;
        schema::migrate(&mut connection)?;
        // Rows are inserted as they are found; dangling references are removed at the end.
        connection.pragma_update(None, "foreign_keys", false)?;
        let tables = tables(&connection)?;
        Ok(Self { connection, tables, damaged: HashSet::new(), lost: Vec::new() })
    }

    /// Inserts rows whose keys are not there yet; returns how many do not fit the table.
    fn insert(&self, table: &Table, content: &TableContent) -> rusqlite::Result<u64> {
        if content.columns.is_empty() {
            return Ok(0);
        }
        let columns: Vec<String> = content.columns.iter().map(|column| format!("\"{column}\"")).collect();
        let placeholders = vec!["?"; columns.len()].join(", ");
        let sql = format!("INSERT INTO \"{}\" ({}) VALUES ({placeholders})", table.name, columns.join(", "));
        let mut statement = self.connection.prepare(&sql)?;
        let mut refused = 0;
        for row in &content.rows {
            match statement.execute(params_from_iter(row)) {
                Ok(_) => {}
                Err(error) if is_duplicate(&error) => {}
                Err(_) => refused += 1,
            }
        }
        Ok(refused)
    }

    /// Applies a change; returns whether it could be applied.
    fn apply(&mut self, change: Change) -> bool {
        let changes = ChangeSet::default().and(change);
        write::apply(&mut self.connection, &changes, &FaultPoints::default(), || true).is_ok()
    }
}

fn is_duplicate(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE};
    let duplicate = [SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE];
    error.sqlite_extended_error_code().is_some_and(|code| duplicate.contains(&code))
}

/// Takes every row of the old database that can be read.
fn take_rows(rebuild: &mut Rebuild, path: &DatabasePath, known: &[VmCopy]) -> Result<(), StoreError> {
    let work_copy = WorkCopy::new(path).map_err(|error| path.io_error(error))?;
    let Some(old) = work_copy.open().map_err(|error| path.io_error(error))? else {
        rebuild.damaged.extend(rebuild.tables.iter().map(|table| table.name.clone()));
        return Ok(());
    };
    for table in rebuild.tables.clone() {
        take_table(rebuild, &old, &table, known).map_err(|error| path.sqlite_error("read the old database", error))?;
    }
    Ok(())
}

fn take_table(rebuild: &mut Rebuild, old: &Connection, table: &Table, known: &[VmCopy]) -> rusqlite::Result<()> {
    let keys = keys_of(rebuild, old, &table.name, known)?;
    let content = read_table(old, table, &keys);
    let refused = rebuild.insert(table, &content)?;
    if refused > 0 {
        let rows = if refused == 1 { "1 invalid row".to_owned() } else { format!("{refused} invalid rows") };
        rebuild.lost.push(format!("{rows} of the table `{}`", table.name));
    }
    if content.is_damaged || refused > 0 {
        rebuild.damaged.insert(table.name.clone());
    }
    Ok(())
}

/// Returns keys that find rows of a table even if pages before them are damaged.
fn keys_of(rebuild: &Rebuild, old: &Connection, table: &str, known: &[VmCopy]) -> rusqlite::Result<Vec<Value>> {
    let texts = |connection: &Connection, sql: &str| -> rusqlite::Result<Vec<Value>> {
        connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
    };
    match table {
        "vm" => {
            // This reads the index of the ids, not the table.
            let mut names = texts(old, "SELECT name FROM vm ORDER BY id").unwrap_or_default();
            names.extend(known.iter().map(|copy| Value::Text(copy.vm.entry.name.to_string())));
            Ok(names)
        }
        "definition" => texts(&rebuild.connection, "SELECT id FROM vm"),
        _ => Ok(Vec::new()),
    }
}

/// Removes VMs that cannot be parsed; a missing or invalid definition is taken from the copy, if there is one.
fn remove_invalid_vms(rebuild: &mut Rebuild, known: &[VmCopy]) -> rusqlite::Result<()> {
    let vms: Vec<(String, String)> = {
        let mut statement = rebuild.connection.prepare("SELECT name, id FROM vm")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
    };
    for (name, text) in vms {
        let id: Option<VmId> = text.parse().ok();
        if let Some(copy) = known.iter().find(|copy| Some(copy.vm.entry.id) == id)
            && read::vm_by_id(&rebuild.connection, copy.vm.entry.id).is_err()
        {
            restore_definition(&rebuild.connection, copy)?;
        }
        let reason = match id.map(|id| read::vm_by_id(&rebuild.connection, id)) {
            Some(Ok(Some(_))) => continue,
            Some(Err(error)) => error.to_string(),
            Some(Ok(None)) | None => format!("invalid id `{text}`"),
        };
        rebuild.lost.push(format!("the VM `{name}`: {reason}"));
        rebuild.damaged.insert("vm".to_owned());
        rebuild.connection.execute("DELETE FROM vm WHERE name = ?1", [&name])?;
    }
    Ok(())
}

fn restore_definition(connection: &Connection, copy: &VmCopy) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO definition (vm, content, origins) VALUES (?1, ?2, ?3)";
    let vm = &copy.vm;
    let row = params![vm.entry.id.to_string(), write::json(&vm.definition)?, write::json(&vm.origins)?];
    connection.execute(sql, row).map(drop)
}

/// Adds VMs and storage records that are known by their copies, if the old database may have lost them.
fn add_copies(rebuild: &mut Rebuild, known: &[VmCopy]) -> rusqlite::Result<()> {
    if !["vm", "definition", "storage"].iter().any(|table| rebuild.damaged.contains(*table)) {
        return Ok(());
    }
    let present = vm_ids(&rebuild.connection)?;
    let sql = format!("SELECT vm FROM event WHERE kind = '{}' AND vm IS NOT NULL", kind::VM_REMOVED);
    let removed = ids(&rebuild.connection, &sql)?;
    for copy in known.iter().filter(|copy| !removed.contains(&copy.vm.entry.id)) {
        let entry = &copy.vm.entry;
        if !present.contains(&entry.id) {
            if !rebuild.damaged.contains("vm") {
                continue;
            }
            // The definition may have been read without its VM.
            rebuild.connection.execute("DELETE FROM definition WHERE vm = ?1", [entry.id.to_string()])?;
            if !rebuild.apply(Change::VmAdded(Box::new(copy.vm.clone()))) {
                rebuild.lost.push(format!("the VM `{}` with the id `{}`: its name is in use", entry.name, entry.id));
                continue;
            }
        }
        add_storage(rebuild, copy)?;
    }
    Ok(())
}

fn add_storage(rebuild: &mut Rebuild, copy: &VmCopy) -> rusqlite::Result<()> {
    for record in &copy.storage {
        let count = "SELECT count(*) FROM storage WHERE path = ?1";
        let count: i64 = rebuild.connection.query_row(count, [path_value(&record.path)], |row| row.get(0))?;
        if count == 0 && !rebuild.apply(Change::StorageAdded(record.clone())) {
            rebuild.lost.push(format!("the record of the image `{}`", record.path.display()));
        }
    }
    Ok(())
}

/// Takes lost rows of the history, the events and the snapshots from the newest intact backup, and of all tables if there
/// are no copies.
fn fill_from_backup(rebuild: &mut Rebuild, path: &Path, with_vms: bool) -> rusqlite::Result<()> {
    let Some(old) = newest_readable_backup(path) else { return Ok(()) };
    for table in &rebuild.tables {
        let has_no_copies = matches!(table.name.as_str(), "history" | "event" | SNAPSHOT);
        if rebuild.damaged.contains(&table.name) && (with_vms || has_no_copies) {
            rebuild.insert(table, &read_table(&old, table, &[]))?;
        }
    }
    Ok(())
}

/// Opens the newest backup that is intact; without one, the newest that has tables.
fn newest_readable_backup(path: &Path) -> Option<Connection> {
    let opened = backup::newest_first(path).into_iter().filter_map(|backup| open_backup(&backup).ok());
    let mut damaged = None;
    for backup in opened.filter(has_tables) {
        if is_intact(&backup) {
            return Some(backup);
        }
        damaged.get_or_insert(backup);
    }
    damaged
}

fn has_tables(backup: &Connection) -> bool {
    let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = 'vm'";
    backup.query_row(sql, [], |row| row.get(0)).unwrap_or(false)
}

fn is_intact(backup: &Connection) -> bool {
    backup.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)).is_ok_and(|verdict| verdict == "ok")
}

/// Removes rows that refer to nothing or cannot be parsed.
fn remove_invalid_rows(rebuild: &mut Rebuild) -> rusqlite::Result<()> {
    let Rebuild { connection, lost, .. } = rebuild;
    connection.execute_batch(
        "DELETE FROM definition WHERE vm NOT IN (SELECT id FROM vm);
         DELETE FROM vm WHERE id NOT IN (SELECT vm FROM definition);
         DELETE FROM snapshot WHERE vm NOT IN (SELECT id FROM vm);
         UPDATE storage SET vm = NULL WHERE vm NOT IN (SELECT id FROM vm);
         DELETE FROM history WHERE NOT json_valid(arguments);
         DELETE FROM event WHERE NOT json_valid(data);",
    )?;
    for entry in read::entries(connection)? {
        if read::storage(connection, entry.id).is_err() {
            lost.push(format!("the storage records of `{}`", entry.name));
            connection.execute("DELETE FROM storage WHERE vm = ?1", [entry.id.to_string()])?;
        }
        if read::snapshots(connection, entry.id).is_err() {
            lost.push(format!("the descriptions of the snapshots of `{}`", entry.name));
            connection.execute("DELETE FROM snapshot WHERE vm = ?1", [entry.id.to_string()])?;
        }
    }
    if read::history(connection, &HistoryQuery::newest(u32::MAX)).is_err() {
        lost.push("the history".to_owned());
        connection.execute("DELETE FROM history", [])?;
    }
    if read::events(connection, 0, u32::MAX).is_err() {
        lost.push("the events".to_owned());
        connection.execute("DELETE FROM event", [])?;
    }
    Ok(())
}

fn vm_ids(connection: &Connection) -> rusqlite::Result<HashSet<VmId>> {
    ids(connection, "SELECT id FROM vm")
}

fn ids(connection: &Connection, sql: &str) -> rusqlite::Result<HashSet<VmId>> {
    let mut statement = connection.prepare(sql)?;
    let ids = statement.query_map([], |row| row.get::<_, String>(0))?;
    Ok(ids.filter_map(|id| id.ok()?.parse().ok()).collect())
}

fn count_log_entries(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT (SELECT count(*) FROM history) + (SELECT count(*) FROM event)";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned)
}

/// Writes the new database to disk and renames it over the old one.
///
/// The old log goes first, as SQLite would apply it to the new database; the backups hold a copy.
fn replace(path: &DatabasePath, content: &[u8]) -> io::Result<()> {
    let file = create::new_file(path, content)?;
    file.sync()?;
    for suffix in ["-wal", "-shm"] {
        unless_missing(fs::remove_file(path.beside(suffix)))?;
    }
    file.replace()
}
