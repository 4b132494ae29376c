//! Reads what is left of a damaged database, row by row and as raw values.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use crate::path::{DatabasePath, with_suffix};
use crate::{create, limits};

/// The size of the file header (<https://sqlite.org/fileformat2.html>, 1.3).
const HEADER: usize = 100;

/// The size of a page.
const PAGE: usize = 4096;

/// The bytes of the header that hold the number of pages.
const PAGES: std::ops::Range<usize> = 28..32;

/// The table of the records of snapshots.
///
/// It came with schema 4, so its first page is another one in each database that was migrated.
pub(super) const SNAPSHOT: &str = "snapshot";

/// A table of the newest schema.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    /// The column of its primary key, if that is one column.
    key: Option<String>,
}

/// The rows that could be read of a table.
#[derive(Debug, Default)]
pub(super) struct TableContent {
    /// The columns that exist.
    pub(super) columns: Vec<String>,
    /// The rows, each with a value for each column.
    pub(super) rows: Vec<Vec<Value>>,
    /// Whether rows may be missing.
    pub(super) is_damaged: bool,
}

/// Returns the tables of a valid database.
pub(super) fn tables(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
    let names: Vec<String> = connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    names.into_iter().map(|name| table(connection, name)).collect()
}

fn table(connection: &Connection, name: String) -> rusqlite::Result<Table> {
    let mut columns = Vec::new();
    let mut keys = Vec::new();
    connection.pragma(None, "table_info", &name, |row| {
        let column: String = row.get(1)?;
        if row.get::<_, i64>(5)? > 0 {
            keys.push(column.clone());
        }
        columns.push(column);
        Ok(())
    })?;
    let key = if keys.len() == 1 { keys.pop() } else { None };
    Ok(Table { name, columns, key })
}

/// A copy of a damaged database in a temporary folder.
#[derive(Debug)]
pub(super) struct WorkCopy {
    folder: PathBuf,
    database: PathBuf,
    content: Vec<u8>,
    log: Option<Vec<u8>>,
}

impl Drop for WorkCopy {
    fn drop(&mut self) {
        let _not_critical = fs::remove_dir_all(&self.folder);
    }
}

impl WorkCopy {
    /// Copies the database and its log; missing files count as empty.
    pub(super) fn new(path: &DatabasePath) -> io::Result<Self> {
        let folder = path.folder.join(format!(".tmp-{}", uuid::Uuid::new_v4().simple()));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let database = folder.join("work.db");
        let mut copy = Self { folder, database, content: Vec::new(), log: None };
        copy.content = read_if_present(&path.file)?.unwrap_or_default();
        copy.log = read_if_present(&path.beside("-wal"))?;
        Ok(copy)
    }

    /// Opens the copy, if its tables can be found.
    ///
    /// If they cannot, the header of a new database is grafted onto the file, and then its whole first page, which says
    /// where the tables begin: that is the same in every database of maqet, but for [`SNAPSHOT`], whose rows are lost.
    pub(super) fn open(&self) -> io::Result<Option<Connection>> {
        let empty = create::empty_content().map_err(io::Error::other)?;
        for graft in [0, HEADER, PAGE] {
            if let Some(connection) = self.try_with(&empty, graft)? {
                return Ok(Some(connection));
            }
        }
        Ok(None)
    }

    fn try_with(&self, empty: &[u8], graft: usize) -> io::Result<Option<Connection>> {
        for ending in ["-wal", "-shm"] {
            let _may_be_missing = fs::remove_file(with_suffix(&self.database, ending));
        }
        fs::write(&self.database, grafted(&self.content, empty, graft))?;
        fs::set_permissions(&self.database, fs::Permissions::from_mode(0o600))?;
        if let Some(log) = &self.log {
            fs::write(with_suffix(&self.database, "-wal"), log)?;
        }
        let opened = open_damaged(&self.database).ok().filter(has_tables);
        if graft == PAGE
            && let Some(connection) = &opened
        {
            let sql = "DELETE FROM sqlite_schema WHERE tbl_name = ?1";
            connection.execute(sql, [SNAPSHOT]).map_err(io::Error::other)?;
        }
        Ok(opened)
    }
}

fn read_if_present(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns `content` with the first `graft` bytes of an empty database, padded to at least its size.
fn grafted(content: &[u8], empty: &[u8], graft: usize) -> Vec<u8> {
    let mut bytes = content.to_vec();
    if graft == 0 {
        return bytes;
    }
    // Missing pages are zeroes, which are not valid, so that a missing table is not taken for an empty one.
    bytes.resize(bytes.len().next_multiple_of(PAGE).max(empty.len()), 0);
    bytes[..graft].copy_from_slice(&empty[..graft]);
    let pages = u32::try_from(bytes.len() / PAGE).unwrap_or(u32::MAX);
    bytes[PAGES].copy_from_slice(&pages.to_be_bytes());
    bytes
}

fn open_damaged(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    // Allows a file to be shorter than its header says.
    connection.pragma_update(None, "writable_schema", true)?;
    Ok(connection)
}

/// Returns whether the tables of VMs can be found; this also applies the log.
fn has_tables(connection: &Connection) -> bool {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ('vm', 'definition')";
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).is_ok_and(|count| count == 2)
}

/// Opens a backup for reading.
pub(super) fn open_backup(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(connection)
}

/// Reads what can be read of a table: from both ends up to the damaged part, then behind it in steps, then the rows of
/// `keys` one by one.
pub(super) fn read_table(connection: &Connection, table: &Table, keys: &[Value]) -> TableContent {
    let present: Vec<String> = match self::table(connection, table.name.clone()) {
        Ok(found) => table.columns.iter().filter(|column| found.columns.contains(column)).cloned().collect(),
        Err(_) => Vec::new(),
    };
    let mut read = TableContent { columns: present, ..TableContent::default() };
    if read.columns.is_empty() {
        read.is_damaged = true;
        return read;
    }
    let Some(key) = table.key.clone().filter(|key| read.columns.contains(key)) else {
        let whole = rows(connection, &select(table, &read.columns, ""), &[], &mut read.rows);
        read.is_damaged = whole.is_err();
        return read;
    };
    let at = read.columns.iter().position(|column| *column == key).unwrap_or_default();
    let forward = select(table, &read.columns, &format!("ORDER BY \"{key}\""));
    if rows(connection, &forward, &[], &mut read.rows).is_ok() {
        return read;
    }
    read.is_damaged = true;
    let last_before = read.rows.last().map(|row| row[at].clone());
    let mut from_end = Vec::new();
    let backward = select(table, &read.columns, &format!("ORDER BY \"{key}\" DESC"));
    let _ends_at_the_damage = rows(connection, &backward, &[], &mut from_end);
    read.rows.append(&mut from_end);
    if let Some(Value::Integer(first)) = last_before {
        read_behind_damage(connection, table, &key, first, &mut read);
    }
    let one = select(table, &read.columns, &format!("WHERE \"{key}\" = ?1"));
    for key in keys {
        let _may_be_on_the_damaged_page = rows(connection, &one, std::slice::from_ref(key), &mut read.rows);
    }
    distinct(&mut read.rows, at);
    read
}

/// Reads on behind a damaged part, whose end is searched for in growing steps.
fn read_behind_damage(connection: &Connection, table: &Table, key: &str, first: i64, read: &mut TableContent) {
    let order = format!("WHERE \"{key}\" > ?1 ORDER BY \"{key}\"");
    let sql = select(table, &read.columns, &order);
    let at = read.columns.iter().position(|column| column == key).unwrap_or_default();
    let number = |row: &Vec<Value>| if let Value::Integer(number) = row[at] { number } else { i64::MIN };
    let last = read.rows.iter().map(number).max().unwrap_or(first);
    let (mut from, mut step) = (first, 1);
    while from < last {
        from = from.saturating_add(step);
        let before = read.rows.len();
        if rows(connection, &sql, &[Value::Integer(from)], &mut read.rows).is_ok() {
            return;
        }
        match read.rows.get(before..).and_then(<[_]>::last).map(number) {
            Some(reached) => (from, step) = (reached, 1),
            None => step = (step * 2).min(limits::MAX_SKIP),
        }
    }
}

fn select(table: &Table, columns: &[String], tail: &str) -> String {
    let columns: Vec<String> = columns.iter().map(|column| format!("\"{column}\"")).collect();
    format!("SELECT {} FROM \"{}\" {tail}", columns.join(", "), table.name)
}

/// Adds the rows of a query until it ends or fails.
fn rows(connection: &Connection, sql: &str, with: &[Value], into: &mut Vec<Vec<Value>>) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query(params_from_iter(with))?;
    while let Some(row) = rows.next()? {
        into.push((0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?);
    }
    Ok(())
}

/// Removes rows with a duplicate key.
fn distinct(rows: &mut Vec<Vec<Value>>, at: usize) {
    let mut seen = std::collections::HashSet::new();
    rows.retain(|row| seen.insert(format!("{:?}", row[at])));
}
