//! A commit: two batches of pipelined statements.
//!
//! The first batch makes the changes; their results decide whether to commit. The second one writes history and events
//! and commits. So a commit takes two round trips, whatever its size, and the lock that orders events is held by the
//! server alone: no slow or frozen process holds up the others.
//!
//! If the connection is lost during the second batch, the server is asked for the outcome of the transaction.

use std::iter;

use futures_util::future::{join, join_all, join4};
use maqet_domain::port::StoreError;
use maqet_fault_points::{FaultPoint, FaultPoints};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::error::Failure;
use crate::identity::Identity;
use crate::limits;
use crate::moves::{self, Identities, Marks};
use crate::pool::{Connection, Pool, discard, with_jitter};
use crate::write::{Statement, Statements};

/// A connection whose transaction is open; if it is dropped, the connection is closed, which rolls back.
struct OpenTransaction(Option<Connection>);

impl OpenTransaction {
    fn client(&self) -> &Client {
        self.0.as_ref().unwrap_or_else(|| unreachable!("it is taken when it is ended"))
    }

    /// Returns the connection to the pool: the transaction has ended.
    fn end(mut self) {
        drop(self.0.take());
    }
}

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            discard(connection);
        }
    }
}

/// Writes all of `statements` or nothing.
pub(crate) async fn commit(
    pool: &Pool,
    statements: &Statements,
    identity: &Identity,
    faults: &FaultPoints,
) -> Result<(), Failure> {
    let mut attempt = 1;
    loop {
        match try_commit(pool, statements, identity, faults).await {
            // Nothing was written: the server rolled back, or the connection was lost before the commit.
            Err(failure)
                if attempt < limits::MAX_ATTEMPTS && (failure.is_rolled_back() || failure.is_lost_connection()) =>
            {
                sleep(with_jitter(limits::MIN_RETRY_INTERVAL * attempt)).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

async fn try_commit(
    pool: &Pool,
    statements: &Statements,
    identity: &Identity,
    faults: &FaultPoints,
) -> Result<(), Failure> {
    let transaction = OpenTransaction(Some(pool.get().await?));
    let client = transaction.client();
    let identities: Identities<'_> =
        iter::once(identity).chain(statements.taken.iter().map(|(_, from)| from)).collect();
    let location = pool.url().recorded();
    let begun = pool.reply(change(client, &statements.changes, &identities, location)).await;
    let number = match begun.and_then(|begun| number_of_unmoved(begun, statements, identity, location)) {
        Ok(number) => number,
        Err(failure) => {
            if !failure.is_lost_connection() && pool.reply(client.batch_execute("ROLLBACK")).await.is_ok() {
                transaction.end();
            }
            return Err(failure);
        }
    };
    faults.reach(FaultPoint::StoreWritten);
    match pool.reply(log_and_commit(client, &statements.log)).await {
        Ok(()) => {
            transaction.end();
            Ok(())
        }
        Err(failure) if failure.is_lost_connection() || matches!(failure, Failure::TimedOut(_)) => {
            drop(transaction);
            outcome(pool, &number, failure).await
        }
        // The server has rolled back.
        Err(failure) => Err(failure),
    }
}

/// Begins a transaction, makes the changes, and returns the number of the transaction and the marks of `identities`.
///
/// The marks are read last, and no other transaction sets one meanwhile.
async fn change(
    client: &Client,
    changes: &[Statement],
    identities: &Identities<'_>,
    location: &str,
) -> Result<(String, Marks), Failure> {
    let opening = async { client.batch_execute("BEGIN").await.map_err(Failure::from) };
    // Polled in this order, so sent in this order.
    let (opened, locked, executed, found) = join4(
        opening,
        identities.keep_marks(client),
        execute(client, changes),
        identities.number_and_marks(client, location),
    )
    .await;
    opened?;
    locked?;
    executed?;
    found
}

/// Returns the number of a transaction, unless what the identity had was moved, or it takes what a move has copied here.
fn number_of_unmoved(
    (number, marks): (String, Marks),
    statements: &Statements,
    identity: &Identity,
    location: &str,
) -> Result<String, Failure> {
    moves::require_none(marks.of(identity), location)?;
    // The other database may still be the one in use.
    if let Some((id, _)) = statements.taken.iter().find(|(_, from)| marks.of(from).is_some()) {
        return Err(StoreError::Conflict { id: *id }.into());
    }
    Ok(number)
}

/// Writes history and events, and commits.
async fn log_and_commit(client: &Client, log: &[Statement]) -> Result<(), Failure> {
    let commit = async { client.batch_execute("COMMIT").await.map_err(Failure::from) };
    let (logged, committed) = join(execute(client, log), commit).await;
    // After a failed statement, `COMMIT` rolls back.
    logged?;
    committed
}

/// Executes statements in order, some of them at a time without waiting for the replies of those before.
pub(crate) async fn execute(client: &Client, statements: &[Statement]) -> Result<(), Failure> {
    for batch in statements.chunks(limits::MAX_PIPELINED) {
        let executions = batch.iter().map(|statement| async move {
            let values: Vec<_> = statement.values.iter().map(crate::column::Value::typed).collect();
            let rows = client.execute_typed(statement.sql, &values).await;
            rows.map_err(|error| statement.explain(error.into())).and_then(|rows| statement.check_rows(rows))
        });
        // The first error is the cause of those after it.
        join_all(executions).await.into_iter().collect::<Result<Vec<()>, _>>()?;
    }
    Ok(())
}

/// Finds out whether a transaction was committed whose connection was lost.
async fn outcome(pool: &Pool, number: &str, lost: Failure) -> Result<(), Failure> {
    let deadline = Instant::now() + pool.timeouts().outcome;
    let status = "SELECT pg_xact_status($1::text::xid8)";
    while Instant::now() < deadline {
        if let Ok(client) = pool.connect().await {
            let asked = pool.reply(client.query_typed_one(status, &[(&number, Type::TEXT)])).await;
            match asked.ok().and_then(|row| row.try_get::<_, Option<String>>(0).ok().flatten()).as_deref() {
                Some("committed") => return Ok(()),
                Some("aborted") => return Err(lost),
                // Still in progress: the server has not noticed that the connection is lost.
                Some(_) | None => {}
            }
        }
        sleep(limits::OUTCOME_INTERVAL).await;
    }
    let location = pool.url().location().to_owned();
    let source = lost.into_store(&location, "commit").into();
    Err(StoreError::Interrupted { location, source }.into())
}
