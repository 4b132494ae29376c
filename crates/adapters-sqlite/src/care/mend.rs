//! A database built anew, in memory first, from what is left of the old one, from copies of VMs and from a backup.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{KeptVm, Origin, RepairReport, StoreError};
use maqet_domain::vm::{VmEntry, VmId};
use maqet_fault_points::FaultPoints;
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::salvage::{Read, Table, WorkCopy, open_backup, read, tables};
use super::{backup, beside, examine};
use crate::database::{Reader, safe_sqlite};
use crate::error::{explained, unusable};
use crate::place::Place;
use crate::{birth, read as rows, schema, write};

const ACTION: &str = "repair the database";

/// A database in the making.
struct New {
    connection: Connection,
    tables: Vec<Table>,
    /// The tables of which something is missing.
    broken: HashSet<String>,
    lost: Vec<String>,
}

/// Builds the database at `path` anew.
pub(super) fn mend(path: &Path, backups: &Path, known: &[KeptVm]) -> Result<RepairReport, StoreError> {
    safe_sqlite()?;
    let place = Place::resolve(path)?;
    let explain = |error| explained(&place.given, ACTION, error);
    refuse_what_is_not_damaged(&place)?;
    let _turn = turn(&place)?;
    if examine::examine(path).is_ok_and(|health| health.is_some()) {
        // Somebody else was faster.
        return Ok(RepairReport::default());
    }
    let kept = backup::of_damaged(&place, backups).map_err(|error| unusable(&place.given, error))?;
    let mut new = New::empty().map_err(explain)?;
    let work = WorkCopy::of(&place).map_err(|error| unusable(&place.given, error))?;
    match work.open().map_err(|error| unusable(&place.given, error))? {
        Some(old) => new.take_all(&old, known).map_err(explain)?,
        None => new.broken.extend(new.tables.iter().map(|table| table.name.clone())),
    }
    drop(work);
    let read = new.vm_ids().map_err(explain)?;
    new.drop_what_is_no_vm(known).map_err(explain)?;
    new.add_known(known)?;
    let copied = new.vm_ids().map_err(explain)?;
    if let Some(backup) = backup::newest(backups) {
        new.fill_from(&backup, known.is_empty()).map_err(explain)?;
    }
    new.tidy().map_err(explain)?;

    let origin = |entry: &VmEntry| match entry.id {
        id if read.contains(&id) => Origin::Database,
        id if copied.contains(&id) => Origin::Copy,
        _ => Origin::Backup,
    };
    let entries = rows::entries(&new.connection).map_err(explain)?;
    let count = "SELECT (SELECT count(*) FROM history) + (SELECT count(*) FROM event)";
    let log_entries = new.connection.query_row(count, [], |row| row.get::<_, i64>(0)).map_err(explain)?.cast_unsigned();
    replace(&place, &birth::bytes_of(&mut new.connection).map_err(explain)?)
        .map_err(|error| unusable(&place.given, error))?;
    let vms = entries.iter().map(|entry| (entry.id, entry.name.to_string(), origin(entry))).collect();
    Ok(RepairReport { kept, vms, log_entries, lost: new.lost })
}

/// A link, a folder or a database of another program is not ours to replace, and a newer one is not damaged.
fn refuse_what_is_not_damaged(place: &Place) -> Result<(), StoreError> {
    match place.look() {
        Ok(_) | Err(StoreError::Corrupt { .. }) => {}
        Err(other) => return Err(other),
    }
    if let Ok(reader) = Reader::open(place) {
        match schema::judge(place, reader.found) {
            Err(newer @ StoreError::NewerSchema { .. }) => return Err(newer),
            Err(foreign) if reader.found.is_foreign() && holds_anothers(&reader.connection) => return Err(foreign),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// Returns whether there are tables, and none of ours.
fn holds_anothers(connection: &Connection) -> bool {
    let sql = "SELECT count(*) > 0 AND NOT max(name = 'vm') FROM sqlite_schema WHERE type = 'table'";
    connection.query_row(sql, [], |row| row.get(0)).unwrap_or(false)
}

/// Keeps a second repair away: the kernel's lock on the folder, which leaves nothing behind.
fn turn(place: &Place) -> Result<File, StoreError> {
    let folder = File::open(&place.folder).map_err(|error| unusable(&place.given, error))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(StoreError::Busy { path: place.given.clone() }),
        Err(TryLockError::Error(error)) => Err(unusable(&place.given, error)),
    }
}

impl New {
    fn empty() -> rusqlite::Result<Self> {
        let mut connection = Connection::open_in_memory()?;
        schema::migrate(&mut connection)?;
        // Rows come in the order in which they can be read; what refers to nothing is found at the end.
        connection.pragma_update(None, "foreign_keys", false)?;
        let tables = tables(&connection)?;
        Ok(Self { connection, tables, broken: HashSet::new(), lost: Vec::new() })
    }

    /// Takes every row that can be read.
    fn take_all(&mut self, old: &Connection, known: &[KeptVm]) -> rusqlite::Result<()> {
        for table in self.tables.clone() {
            let keys = self.keys_of(old, &table.name, known)?;
            let read = read(old, &table, &keys);
            let refused = self.insert(&table, &read)?;
            if refused > 0 {
                let rows = if refused == 1 { "1 row".to_owned() } else { format!("{refused} rows") };
                let (table, hold) = (&table.name, if refused == 1 { "holds" } else { "hold" });
                self.lost.push(format!("{rows} of the table `{table}` that {hold} what maqet never wrote"));
            }
            if read.is_broken || refused > 0 {
                self.broken.insert(table.name.clone());
            }
        }
        Ok(())
    }

    /// Returns keys under which rows of a table may be found, though the way from its beginning is damaged.
    fn keys_of(&self, old: &Connection, table: &str, known: &[KeptVm]) -> rusqlite::Result<Vec<Value>> {
        let texts = |connection: &Connection, sql: &str| -> rusqlite::Result<Vec<Value>> {
            connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        match table {
            "vm" => {
                // This reads the index on the ids, and not the table.
                let mut names = texts(old, "SELECT name FROM vm ORDER BY id").unwrap_or_default();
                names.extend(known.iter().map(|kept| Value::Text(kept.vm.entry.name.to_string())));
                Ok(names)
            }
            "definition" => texts(&self.connection, "SELECT id FROM vm"),
            _ => Ok(Vec::new()),
        }
    }

    /// Adds rows, those aside that are there; returns how many do not fit the table.
    fn insert(&self, table: &Table, read: &Read) -> rusqlite::Result<u64> {
        if read.columns.is_empty() {
            return Ok(0);
        }
        let columns: Vec<String> = read.columns.iter().map(|column| format!("\"{column}\"")).collect();
        let placeholders = vec!["?"; columns.len()].join(", ");
        let sql = format!("INSERT INTO \"{}\" ({}) VALUES ({placeholders})", table.name, columns.join(", "));
        let mut statement = self.connection.prepare(&sql)?;
        let mut refused = 0;
        for row in &read.rows {
            match statement.execute(params_from_iter(row)) {
                Ok(_) => {}
                Err(error) if is_there_already(&error) => {}
                Err(_) => refused += 1,
            }
        }
        Ok(refused)
    }

    fn vm_ids(&self) -> rusqlite::Result<HashSet<VmId>> {
        let mut statement = self.connection.prepare("SELECT id FROM vm")?;
        let ids = statement.query_map([], |row| row.get::<_, String>(0))?;
        Ok(ids.filter_map(|id| id.ok()?.parse().ok()).collect())
    }

    /// Removes VMs that cannot be understood; a definition that is missing comes from the copy, if there is one.
    fn drop_what_is_no_vm(&mut self, known: &[KeptVm]) -> rusqlite::Result<()> {
        let sql = "SELECT name, id FROM vm";
        let named: Vec<(String, String)> = {
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
        };
        for (name, id) in named {
            let parsed: Option<VmId> = id.parse().ok();
            let copy = known.iter().find(|kept| Some(kept.vm.entry.id) == parsed);
            if let (Some(id), Some(copy)) = (parsed, copy)
                && rows::vm_by_id(&self.connection, id).is_err()
            {
                self.define(copy)?;
            }
            let why = match parsed.map(|id| rows::vm_by_id(&self.connection, id)) {
                Some(Ok(Some(_))) => continue,
                Some(Err(error)) => error.to_string(),
                Some(Ok(None)) | None => format!("`{id}` is not the id of a VM"),
            };
            self.lost.push(format!("the VM `{name}`: {why}"));
            self.broken.insert("vm".to_owned());
            self.connection.execute("DELETE FROM vm WHERE name = ?1", [&name])?;
        }
        Ok(())
    }

    fn define(&self, copy: &KeptVm) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO definition (vm, content, origins) VALUES (?1, ?2, ?3)";
        let encode = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
        let content = serde_json::to_string(&copy.vm.definition).map_err(encode)?;
        let origins = serde_json::to_string(&copy.vm.origins).map_err(encode)?;
        self.connection.execute(sql, params![copy.vm.entry.id.to_string(), content, origins]).map(drop)
    }

    /// Adds the VMs that are known by their copies, where the old database cannot tell that they were removed.
    fn add_known(&mut self, known: &[KeptVm]) -> Result<(), StoreError> {
        if !self.broken.contains("vm") && !self.broken.contains("definition") && !self.broken.contains("storage") {
            return Ok(());
        }
        let explain = |error| explained(Path::new("the new database"), ACTION, error);
        let there = self.vm_ids().map_err(explain)?;
        let removed = self.removed().map_err(explain)?;
        for kept in known.iter().filter(|kept| !removed.contains(&kept.vm.entry.id)) {
            let id = kept.vm.entry.id;
            if !there.contains(&id) {
                if !self.broken.contains("vm") {
                    continue;
                }
                // One that was read without its VM would be in the way.
                let sql = "DELETE FROM definition WHERE vm = ?1";
                self.connection.execute(sql, [id.to_string()]).map_err(explain)?;
                let added = ChangeSet::default().and(Change::VmAdded(Box::new(kept.vm.clone())));
                if write::apply(&mut self.connection, &added, &FaultPoints::default()).is_err() {
                    self.lost.push(format!("the VM `{}` of the id `{id}`: its name is taken", kept.vm.entry.name));
                    continue;
                }
            }
            self.add_storage(kept).map_err(explain)?;
        }
        Ok(())
    }

    /// Adds the records of images that no record is there for.
    fn add_storage(&mut self, kept: &KeptVm) -> rusqlite::Result<()> {
        for record in &kept.storage {
            let path = crate::column::path_value(&record.path);
            let count = "SELECT count(*) FROM storage WHERE path = ?1";
            if self.connection.query_row(count, [path], |row| row.get::<_, i64>(0))? == 0 {
                let added = ChangeSet::default().and(Change::StorageAdded(record.clone()));
                if write::apply(&mut self.connection, &added, &FaultPoints::default()).is_err() {
                    self.lost.push(format!("the record of the image `{}`", record.path.display()));
                }
            }
        }
        Ok(())
    }

    /// Returns the VMs of which the events tell that they were removed.
    fn removed(&self) -> rusqlite::Result<HashSet<VmId>> {
        let sql = "SELECT vm FROM event WHERE kind = ?1 AND vm IS NOT NULL";
        let mut statement = self.connection.prepare(sql)?;
        let ids = statement.query_map([maqet_domain::event::kind::VM_REMOVED], |row| row.get::<_, String>(0))?;
        Ok(ids.filter_map(|id| id.ok()?.parse().ok()).collect())
    }

    /// Fills what is missing of history and events, and of the VMs where there is no copy of any, from a backup.
    fn fill_from(&mut self, backup: &Path, with_vms: bool) -> rusqlite::Result<()> {
        let Ok(old) = open_backup(backup) else { return Ok(()) };
        let is_log = |name: &str| matches!(name, "history" | "event");
        for table in self.tables.clone() {
            if self.broken.contains(&table.name) && (with_vms || is_log(&table.name)) {
                self.insert(&table, &read(&old, &table, &[]))?;
            }
        }
        Ok(())
    }

    /// Removes what refers to nothing and what cannot be understood.
    fn tidy(&mut self) -> rusqlite::Result<()> {
        self.connection.execute_batch(
            "DELETE FROM definition WHERE vm NOT IN (SELECT id FROM vm);
             DELETE FROM vm WHERE id NOT IN (SELECT vm FROM definition);
             UPDATE storage SET vm = NULL WHERE vm NOT IN (SELECT id FROM vm);
             DELETE FROM history WHERE NOT json_valid(arguments);
             DELETE FROM event WHERE NOT json_valid(data);",
        )?;
        for entry in rows::entries(&self.connection)? {
            if rows::storage(&self.connection, entry.id).is_err() {
                self.lost.push(format!("the records of the images of `{}`", entry.name));
                self.connection.execute("DELETE FROM storage WHERE vm = ?1", [entry.id.to_string()])?;
            }
        }
        if rows::history(&self.connection, u32::MAX).is_err() {
            self.lost.push("the history".to_owned());
            self.connection.execute("DELETE FROM history", [])?;
        }
        if rows::events(&self.connection, 0, u32::MAX).is_err() {
            self.lost.push("the events".to_owned());
            self.connection.execute("DELETE FROM event", [])?;
        }
        Ok(())
    }
}

fn is_there_already(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE};
    let unique = [SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_ROWID, SQLITE_CONSTRAINT_UNIQUE];
    error.sqlite_extended_error_code().is_some_and(|code| unique.contains(&code))
}

/// Puts the new database in the place of the old one: whole on disk first, then by one rename.
///
/// The log of the old one goes before, as SQLite would play it into the new one; it was kept with the rest.
fn replace(place: &Place, content: &[u8]) -> io::Result<()> {
    let temporary = birth::temporary_name(place);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let replaced = birth::fill(&mut file, content).and_then(|()| {
        for ending in ["-wal", "-shm"] {
            match fs::remove_file(beside(&place.file, ending)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        fs::rename(&temporary, &place.file)
    });
    if replaced.is_err() {
        let _gone_already = fs::remove_file(&temporary);
    }
    replaced?;
    birth::sync_folder(place)
}
