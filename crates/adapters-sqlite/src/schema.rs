//! The schema: whose database it is, which version it has, and the way to the newest one.

use maqet_domain::port::StoreError;
use rusqlite::{Connection, TransactionBehavior};

use crate::place::Place;

/// Marks a database as ours: `mqet` (<https://sqlite.org/pragma.html#pragma_application_id>).
const APPLICATION_ID: i32 = 0x6d71_6574;

/// What leads from each version to the next; the length is the newest version.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// Whose a database says it is.
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

    /// Returns whether another program made the database.
    pub(crate) const fn is_foreign(self) -> bool {
        self.application != APPLICATION_ID
    }
}

/// What has to be done before the database can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// It is older than we are.
    Migration,
}

/// Returns the newest version of the schema.
pub(crate) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Reads whose the database is.
pub(crate) fn identity(connection: &Connection) -> rusqlite::Result<Identity> {
    Ok(Identity {
        version: connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
        application: connection.pragma_query_value(None, "application_id", |row| row.get(0))?,
    })
}

/// Decides what to do with a database that says this of itself.
pub(crate) fn judge(place: &Place, found: Identity) -> Result<Due, StoreError> {
    if found.application != APPLICATION_ID {
        return Err(place.corrupt("it is an SQLite database, and not one of maqet"));
    }
    if found.version > newest() {
        return Err(StoreError::NewerSchema { path: place.given.clone(), found: found.version, known: newest() });
    }
    if found.version < 1 {
        return Err(place.corrupt(format!("it says that its schema is number {}", found.version)));
    }
    Ok(if found.version == newest() { Due::Nothing } else { Due::Migration })
}

/// Brings the database to the newest version; nothing happens where another process was faster.
pub(crate) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Read again: only now nobody else can be at it.
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let Some(due) = usize::try_from(version).ok().and_then(|done| MIGRATIONS.get(done..)) else { return Ok(()) };
    for step in due {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", newest())?;
    transaction.commit()
}
