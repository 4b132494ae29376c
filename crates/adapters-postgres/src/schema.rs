//! The schema: its version, and the migrations to the newest one.
//!
//! The table `maqet` marks a database of maqet and holds the version. Migrations run under an advisory lock, so that of
//! many processes at once one migrates, and the others find it done.

use maqet_domain::port::StoreError;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::error::{Failure, cause};

/// The migrations from each version to the next; their number is the newest version.
const MIGRATIONS: [&str; 7] = [
    include_str!("schema/v1.sql"),
    include_str!("schema/v2.sql"),
    include_str!("schema/v3.sql"),
    include_str!("schema/v4.sql"),
    include_str!("schema/v5.sql"),
    include_str!("schema/v6.sql"),
    include_str!("schema/v7.sql"),
];

/// The table of the version, as the first migration of a database finds it.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS maqet (version bigint NOT NULL)";

/// The lock under which a database is migrated; only its number is common to all stores of a database.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1836148084, 0)";

/// What a database contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing of maqet.
    Absent,
    /// A schema.
    Version {
        /// Its version, which is at most the newest.
        number: i64,
        /// The ID of the database; a schema of version 1 or 2 has none.
        id: Option<Uuid>,
    },
}

impl State {
    /// Returns the ID of a database with the newest schema.
    pub(crate) fn current_id(&self) -> Option<Uuid> {
        match self {
            Self::Version { number, id, .. } if *number == newest() => *id,
            Self::Version { .. } | Self::Absent => None,
        }
    }
}

/// Returns the newest version of the schema.
pub(crate) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Returns what the database contains.
///
/// Errors: `UnsupportedSchema` for one of a newer maqet, `ServerCorrupt` for a table `maqet` of another program.
pub(crate) async fn state(client: &Client, location: &str) -> Result<State, Failure> {
    let rows = match client.query_typed("SELECT * FROM maqet", &[]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(State::Absent),
        rows => rows?,
    };
    let corrupt = |detail: &str| StoreError::ServerCorrupt { location: location.to_owned(), detail: detail.to_owned() };
    let [row] = rows.as_slice() else { return Err(corrupt("the table `maqet` does not have one row").into()) };
    let version: i64 = row.try_get("version").map_err(|_| corrupt("the table `maqet` has no version"))?;
    let id = row.try_get("id").ok();
    require_known(version, location)?;
    match version {
        _ if version < 1 => Err(corrupt(&format!("invalid schema version {version}")).into()),
        3.. if id.is_none() => Err(corrupt("the table `maqet` has no ID").into()),
        number => Ok(State::Version { number, id }),
    }
}

/// Refuses a schema of a newer version.
pub(crate) fn require_known(version: i64, location: &str) -> Result<(), StoreError> {
    if version <= newest() {
        return Ok(());
    }
    Err(StoreError::UnsupportedSchema { location: location.to_owned(), found: version, known: newest() })
}

/// Migrates the database to the newest version, unless another process did so first.
pub(crate) async fn migrate(client: &Client, location: &str) -> Result<(), Failure> {
    client.batch_execute(&format!("BEGIN; {LOCK};")).await?;
    let migrated = migrate_locked(client, location).await;
    // The transaction is also rolled back if the connection is lost.
    client.batch_execute(if migrated.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
    migrated
}

/// Explains that a table of maqet's names exists without the table `maqet`.
fn not_ours(error: tokio_postgres::Error, location: &str) -> Failure {
    if error.code() != Some(&SqlState::DUPLICATE_TABLE) {
        return error.into();
    }
    let detail = format!("it has tables of another program: {}", cause(error));
    StoreError::ServerCorrupt { location: location.to_owned(), detail }.into()
}

async fn migrate_locked(client: &Client, location: &str) -> Result<(), Failure> {
    // A failed statement would end the transaction, so that the table is looked up first.
    let exists = "SELECT to_regclass('maqet') IS NOT NULL";
    let exists: bool = client.query_typed_one(exists, &[]).await?.try_get(0)?;
    // Read again: only the lock keeps other processes out.
    let done = match if exists { state(client, location).await? } else { State::Absent } {
        State::Absent => 0,
        State::Version { number, .. } => usize::try_from(number).unwrap_or_default(),
    };
    if done == 0 {
        client.batch_execute(&format!("{CREATE}; INSERT INTO maqet VALUES (0)")).await?;
    }
    for step in MIGRATIONS.iter().skip(done) {
        client.batch_execute(step).await.map_err(|error| not_ours(error, location))?;
    }
    client.execute_typed("UPDATE maqet SET version = $1", &[(&newest(), Type::INT8)]).await?;
    Ok(())
}
