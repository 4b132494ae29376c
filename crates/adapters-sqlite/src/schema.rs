//! The schema: the identity of a database, its version, and the migrations to the newest one.

use maqet_domain::port::{MoveMark, StoreError};
use rusqlite::types::Type;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::column::Tree;
use crate::path::DatabasePath;

/// Marks a database of maqet: `mqet` (<https://sqlite.org/pragma.html#pragma_application_id>).
pub(crate) const APPLICATION_ID: i32 = 0x6d71_6574;

/// The migrations from each version to the next; their number is the newest version.
const MIGRATIONS: [&[&str]; 6] = [
    &[include_str!("schema/v1.sql")],
    &[include_str!("schema/v2.sql"), RENAMES],
    &[include_str!("schema/v3.sql")],
    &[include_str!("schema/v4.sql")],
    &[include_str!("schema/v5.sql")],
    &[include_str!("schema/v6.sql")],
];

/// Renames values that schema 1 stored; rows of a newer schema do not change.
const RENAMES: &str = include_str!("schema/renames.sql");

/// What is added to the version of a database with a [`MoveMark`], which its table `move` holds: so that older versions of
/// maqet do not use it either, and that a commit recognizes it without reading a row.
const MARKED: i64 = 1_000;

/// What a database says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    application: i32,
    version: i64,
    mark: Option<MoveMark>,
}

impl Identity {
    /// Returns the version of the schema.
    pub(crate) const fn version(&self) -> i64 {
        self.version
    }

    /// Returns its part in a move.
    pub(crate) fn mark(&self) -> Option<&MoveMark> {
        self.mark.as_ref()
    }

    /// Returns whether another program created the database.
    pub(crate) const fn is_foreign(&self) -> bool {
        self.application != APPLICATION_ID
    }
}

/// Returns the newest version of the schema.
pub(crate) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Reads what the database says about itself.
pub(crate) fn identity(connection: &Connection) -> rusqlite::Result<Identity> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if version <= MARKED || application != APPLICATION_ID {
        return Ok(Identity { application, version, mark: None });
    }
    Ok(Identity { application, version: version - MARKED, mark: Some(read_mark(connection)?) })
}

/// Why a database that is open is not used any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It has a part in a move.
    Marked(MoveMark),
    /// A newer version of maqet has migrated it to this version of the schema.
    Migrated(i64),
}

impl Refusal {
    /// Returns the error for the database at `path`.
    pub(crate) fn error(&self, path: &DatabasePath) -> StoreError {
        match self {
            Self::Marked(mark) => path.marked(mark),
            Self::Migrated(version) => path.unsupported_schema(*version, newest()),
        }
    }
}

/// Returns why a database is not used any more; cheap if it is.
pub(crate) fn refusal(connection: &Connection) -> rusqlite::Result<Option<Refusal>> {
    let version = version(connection)?;
    if version > MARKED {
        return Ok(Some(match read_mark(connection) {
            // Of a newer version, it may look different.
            Err(_) if version - MARKED > newest() => Refusal::Migrated(version - MARKED),
            mark => Refusal::Marked(mark?),
        }));
    }
    Ok((version > newest()).then_some(Refusal::Migrated(version)))
}

/// Returns the mark of a database, if it has one; cheap if it has none.
pub(crate) fn mark(connection: &Connection) -> rusqlite::Result<Option<MoveMark>> {
    if version(connection)? > MARKED { read_mark(connection).map(Some) } else { Ok(None) }
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))
}

fn read_mark(connection: &Connection) -> rusqlite::Result<MoveMark> {
    let mark: Tree = connection.query_row("SELECT mark FROM move", [], |row| row.get(0))?;
    serde_json::from_value(mark.0)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error.into()))
}

/// Sets or removes the mark of a database with the newest schema.
pub(crate) fn set_mark(transaction: &Transaction<'_>, mark: Option<&MoveMark>) -> rusqlite::Result<()> {
    transaction.execute_batch("DROP TABLE IF EXISTS move")?;
    if let Some(mark) = mark {
        transaction.execute_batch("CREATE TABLE move (mark TEXT NOT NULL) STRICT")?;
        let mark = serde_json::to_value(mark);
        let mark = mark.map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        transaction.execute("INSERT INTO move (mark) VALUES (?1)", [Tree(mark)])?;
    }
    transaction.pragma_update(None, "user_version", newest() + if mark.is_some() { MARKED } else { 0 })
}

/// Returns whether a database has to be migrated before it is used.
///
/// Errors: `Corrupt` for a database of another program, `UnsupportedSchema` for one of a newer maqet, `Moved` and
/// `MoveUnfinished` for one with a mark.
pub(crate) fn needs_migration(path: &DatabasePath, found: &Identity) -> Result<bool, StoreError> {
    if let Some(mark) = found.mark() {
        return Err(path.marked(mark));
    }
    match found.version {
        _ if found.is_foreign() => Err(path.corrupt("it is an SQLite database of another program")),
        version if version > newest() => Err(path.unsupported_schema(version, newest())),
        version if version < 1 => Err(path.corrupt(format!("invalid schema version {version}"))),
        version => Ok(version < newest()),
    }
}

/// Migrates the database to the newest version, unless another process did so first.
pub(crate) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Read again: only the transaction keeps other processes out.
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let Some(due) = usize::try_from(version).ok().and_then(|done| MIGRATIONS.get(done..)) else { return Ok(()) };
    for step in due.iter().flat_map(|steps| *steps) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", newest())?;
    transaction.commit()
}

/// Renames values that older versions stored under other names; other rows do not change.
pub(crate) fn rename_stored_values(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(RENAMES)
}
