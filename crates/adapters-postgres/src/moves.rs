//! The parts that the identities of a database have in moves: rows of the table `move`.
//!
//! A commit holds a shared lock of its identity, and reads the marks after its changes; what sets or removes a mark holds
//! that lock alone. So a commit is either done before, or sees the mark, and those of other identities wait for neither.

use std::time::Duration;

use maqet_domain::port::{MoveMark, StoreError};
use serde_json::{from_str, to_string};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use crate::error::Failure;
use crate::identity::Identity;
use crate::schema;

/// The lock of each identity; two that have the same by chance only wait for each other.
macro_rules! lock {
    ($function:literal) => {
        concat!(
            "SELECT ",
            $function,
            "(1836148085, hashtext(format('%s/%s', host, owner))) FROM unnest($1::text[], $2::text[]) AS one (host, owner)"
        )
    };
}

/// Identities as two parameters: their hosts and their owners.
pub(crate) struct Identities<'a> {
    hosts: Vec<&'a str>,
    owners: Vec<&'a str>,
}

impl<'a> FromIterator<&'a Identity> for Identities<'a> {
    fn from_iter<I: IntoIterator<Item = &'a Identity>>(identities: I) -> Self {
        let (hosts, owners) = identities.into_iter().map(|one| (&*one.host, &*one.owner)).unzip();
        Self { hosts, owners }
    }
}

impl Identities<'_> {
    /// Lets no mark of these be set or removed until the transaction ends.
    pub(crate) async fn keep_marks(&self, client: &Client) -> Result<(), Failure> {
        self.execute(client, lock!("pg_advisory_xact_lock_shared")).await
    }

    async fn execute(&self, client: &Client, sql: &str) -> Result<(), Failure> {
        let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&self.hosts, Type::TEXT_ARRAY), (&self.owners, Type::TEXT_ARRAY)];
        client.execute_typed(sql, &values).await?;
        Ok(())
    }

    /// Returns the number of the transaction that is open, and the marks of these; refuses a schema of a newer version.
    pub(crate) async fn number_and_marks(&self, client: &Client, location: &str) -> Result<(String, Marks), Failure> {
        let sql = "SELECT pg_current_xact_id()::text, move.host, move.owner, mark, version FROM maqet LEFT JOIN move \
            ON (move.host, move.owner) IN (SELECT * FROM unnest($1::text[], $2::text[]))";
        let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&self.hosts, Type::TEXT_ARRAY), (&self.owners, Type::TEXT_ARRAY)];
        let rows = client.query_typed(sql, &values).await?;
        let first = rows.first().ok_or_else(no_version)?;
        schema::require_known(first.try_get(4)?, location)?;
        let number = first.try_get(0)?;
        let mut marks = Vec::new();
        for row in &rows {
            if let Some(host) = row.try_get::<_, Option<String>>(1)? {
                marks.push((Identity { host, owner: row.try_get(2)? }, parse(row, 3)?));
            }
        }
        Ok((number, Marks(marks)))
    }
}

/// Marks of some identities.
pub(crate) struct Marks(Vec<(Identity, MoveMark)>);

impl Marks {
    /// Returns the mark of `identity`.
    pub(crate) fn of(&self, identity: &Identity) -> Option<&MoveMark> {
        self.0.iter().find(|(of, _)| of == identity).map(|(_, mark)| mark)
    }
}

/// Refuses a database that is not used because of a move.
pub(crate) fn require_none(mark: Option<&MoveMark>, location: &str) -> Result<(), StoreError> {
    mark.map_or(Ok(()), |mark| Err(mark.error(location)))
}

/// Waits for all commits of `identity` that are under way, and lets no other begin until the transaction ends.
pub(crate) async fn lock(client: &Client, identity: &Identity) -> Result<(), Failure> {
    Identities::from_iter([identity]).execute(client, lock!("pg_advisory_xact_lock")).await
}

/// Lets no other process move what `identity` has until the connection, which serves for nothing else, is closed; returns
/// whether it was locked within `timeout`.
pub(crate) async fn lock_session(client: &Client, identity: &Identity, timeout: Duration) -> Result<bool, Failure> {
    // A wait is as long as another move, not as a statement; zero would be no limit.
    const LIMIT: &str = "SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', $1, false)";
    const LOCK: &str = "SELECT pg_advisory_lock(1836148086, hashtext(format('%s/%s', $1::text, $2::text)))";

    let limit = timeout.as_millis().clamp(1, i32::MAX.unsigned_abs().into()).to_string();
    client.execute_typed(LIMIT, &[(&limit, Type::TEXT)]).await?;
    let Identity { host, owner } = identity;
    match client.execute_typed(LOCK, &[(host, Type::TEXT), (owner, Type::TEXT)]).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns the mark of `identity`.
pub(crate) async fn mark(client: &Client, identity: &Identity) -> Result<Option<MoveMark>, Failure> {
    one_mark(client, "SELECT mark FROM move WHERE host = $1 AND owner = $2", identity).await
}

/// Refuses a database that `identity` does not use any more: because of a move, or as a newer version has migrated it.
pub(crate) async fn require_in_use(client: &Client, identity: &Identity, location: &str) -> Result<(), Failure> {
    let sql = "SELECT version, mark FROM maqet LEFT JOIN move ON host = $1 AND owner = $2";
    let Identity { host, owner } = identity;
    let rows = client.query_typed(sql, &[(host, Type::TEXT), (owner, Type::TEXT)]).await?;
    let row = rows.first().ok_or_else(no_version)?;
    schema::require_known(row.try_get(0)?, location)?;
    let mark = if row.try_get::<_, Option<&str>>(1)?.is_some() { Some(parse(row, 1)?) } else { None };
    Ok(require_none(mark.as_ref(), location)?)
}

fn no_version() -> Failure {
    Failure::Damage("the table `maqet` is empty".to_owned())
}

/// Returns the mark of `identity`, which no other transaction changes until this one ends.
pub(crate) async fn mark_for_update(client: &Client, identity: &Identity) -> Result<Option<MoveMark>, Failure> {
    one_mark(client, "SELECT mark FROM move WHERE host = $1 AND owner = $2 FOR UPDATE", identity).await
}

/// Sets or removes the mark of `identity`.
pub(crate) async fn set(client: &Client, identity: &Identity, mark: Option<&MoveMark>) -> Result<(), Failure> {
    const SET: &str =
        "INSERT INTO move VALUES ($1, $2, $3) ON CONFLICT (host, owner) DO UPDATE SET mark = excluded.mark";

    let Identity { host, owner } = identity;
    let Some(mark) = mark else {
        let remove = "DELETE FROM move WHERE host = $1 AND owner = $2";
        client.execute_typed(remove, &[(host, Type::TEXT), (owner, Type::TEXT)]).await?;
        return Ok(());
    };
    let mark = to_string(mark).map_err(|error| Failure::Value(error.into()))?;
    client.execute_typed(SET, &[(host, Type::TEXT), (owner, Type::TEXT), (&mark, Type::TEXT)]).await?;
    Ok(())
}

async fn one_mark(client: &Client, sql: &str, identity: &Identity) -> Result<Option<MoveMark>, Failure> {
    let Identity { host, owner } = identity;
    let rows = client.query_typed(sql, &[(host, Type::TEXT), (owner, Type::TEXT)]).await?;
    rows.first().map(|row| parse(row, 0)).transpose()
}

fn parse(row: &Row, column: usize) -> Result<MoveMark, Failure> {
    from_str(row.try_get(column)?)
        .map_err(|error| Failure::Damage(format!("the mark of a move cannot be read: {error}")))
}
