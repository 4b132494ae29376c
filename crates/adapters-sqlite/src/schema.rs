//! The schema: the identity of a database, its version, and the migrations to the newest one.

use maqet_domain::port::StoreError;
use rusqlite::{Connection, TransactionBehavior};

use crate::path::DatabasePath;

/// Marks a database of maqet: `mqet` (<https://sqlite.org/pragma.html#pragma_application_id>).
pub(crate) const APPLICATION_ID: i32 = 0x6d71_6574;

/// The migrations from each version to the next; their number is the newest version.
const MIGRATIONS: [&[&str]; 5] = [
    &[include_str!("schema/v1.sql")],
    &[include_str!("schema/v2.sql"), RENAMES],
    &[include_str!("schema/v3.sql")],
    &[include_str!("schema/v4.sql")],
    &[include_str!("schema/v5.sql")],
];

/// Renames values that schema 1 stored; rows of a newer schema do not change.
const RENAMES: &str = include_str!("schema/renames.sql");

/// What a database says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    application: i32,
    version: i64,
}

impl Identity {
    /// Returns the version of the schema.
    pub(crate) const fn version(self) -> i64 {
        self.version
    }

    /// Returns whether another program created the database.
    pub(crate) const fn is_foreign(self) -> bool {
        self.application != APPLICATION_ID
    }
}

/// Returns the newest version of the schema.
pub(crate) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Reads what the database says about itself.
pub(crate) fn identity(connection: &Connection) -> rusqlite::Result<Identity> {
    Ok(Identity {
        version: connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
        application: connection.pragma_query_value(None, "application_id", |row| row.get(0))?,
    })
}

/// Returns whether a database has to be migrated before it is used.
///
/// Errors: `Corrupt` for a database of another program, `UnsupportedSchema` for one of a newer maqet.
pub(crate) fn needs_migration(path: &DatabasePath, found: Identity) -> Result<bool, StoreError> {
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
