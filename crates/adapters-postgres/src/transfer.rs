//! The port [`StoreTransfer`]: reads and writes all that a database holds of one identity.
//!
//! Each transaction that sets a mark locks the table `maqet`. A commit reads that table after its changes, so that it is
//! either done before, or sees the mark.

use std::sync::Arc;

use async_trait::async_trait;
use deadpool::managed::Object;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{MoveMark, StoreContent, StoreError, StoreTransfer};
use maqet_fault_points::{FaultPoint, FaultPoints};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::error::Failure;
use crate::identity::Identity;
use crate::moves::Moves;
use crate::pool::Pool;
use crate::schema::{self, State};
use crate::write::Statement;
use crate::{limits, read, transaction, write};

const ACTION: &str = "move the database";

/// Waits for all commits that are under way, and lets no other begin until the transaction ends.
const LOCK: &str = "LOCK TABLE maqet IN ACCESS EXCLUSIVE MODE; ALTER TABLE maqet ADD COLUMN IF NOT EXISTS moves text";

/// Moves what a database holds of one identity.
pub struct PostgresTransfer {
    pool: Arc<Pool>,
    identity: Arc<Identity>,
    faults: FaultPoints,
}

impl PostgresTransfer {
    pub(crate) const fn new(pool: Arc<Pool>, identity: Arc<Identity>, faults: FaultPoints) -> Self {
        Self { pool, identity, faults }
    }

    fn location(&self) -> &str {
        self.pool.url().location()
    }

    async fn moves(&self, client: &Client) -> Result<Moves, Failure> {
        match schema::state(client, self.location()).await? {
            State::Version { moves, .. } => Ok(moves),
            State::Absent => Ok(Moves::default()),
        }
    }

    async fn try_mark(&self) -> Result<Option<MoveMark>, Failure> {
        let client = self.pool.connect().await?;
        Ok(self.pool.reply(self.moves(&client)).await?.of(&self.identity).cloned())
    }

    async fn try_export(&self, mark: Option<&MoveMark>) -> Result<StoreContent, Failure> {
        let client = match mark {
            // As for a command: a database that is lost, or was moved, is not an empty one.
            None => Object::take(self.pool.get().await?),
            Some(_) => self.pool.connect().await?,
        };
        self.pool.reply(client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")).await?;
        let moves = self.pool.reply(self.moves(&client)).await?;
        match moves.of(&self.identity) {
            found if found == mark => self.content(&client).await,
            found => Err(MoveMark::missing(found, self.location()).into()),
        }
    }

    /// Reads everything; more than one read, to be made in one transaction.
    async fn content(&self, client: &Client) -> Result<StoreContent, Failure> {
        let identity = &*self.identity;
        Ok(StoreContent {
            vms: self.pool.reply(read::rows(client, &read::all_vms(identity))).await?,
            storage: self.pool.reply(read::rows(client, &read::all_storage(identity))).await?,
            snapshots: self.pool.reply(read::rows(client, &read::all_snapshots(identity))).await?,
            history: self.pool.reply(read::rows(client, &read::all_history(identity))).await?,
            events: self.pool.reply(read::rows(client, &read::all_events(identity))).await?,
        })
    }

    async fn try_import(
        &self,
        content: StoreContent,
        mark: MoveMark,
        replaced: Option<MoveMark>,
    ) -> Result<(), Failure> {
        let client = self.pool.connect().await?;
        if self.pool.reply(schema::state(&client, self.location())).await?.current_id().is_none() {
            self.pool.reply(schema::migrate(&client, self.location())).await?;
        }
        drop(client);
        let (client, moves) = self.begin().await?;
        let is_free = match moves.of(&self.identity) {
            Some(found) => replaced.as_ref() == Some(found),
            None => self.content(&client).await?.is_empty(),
        };
        if !is_free {
            let location = self.location().to_owned();
            return Err(StoreError::NotEmpty { location }.into());
        }
        self.execute(&client, &write::clear(&self.identity)).await?;
        self.fill(&client, content.renumbered()).await?;
        self.commit(&client, moves, Some(mark)).await
    }

    async fn fill(&self, client: &Client, content: StoreContent) -> Result<(), Failure> {
        let StoreContent { vms, storage, snapshots, history, events } = content;
        let vms = vms.into_iter().map(|vm| Change::VmAdded(Box::new(vm)));
        let storage = storage.into_iter().map(Change::StorageAdded);
        let snapshots = snapshots.into_iter().map(|record| Change::SnapshotAdded(Box::new(record)));
        let changes = ChangeSet { changes: vms.chain(storage).chain(snapshots).collect(), ..ChangeSet::default() };
        self.execute(client, &[write::show_life(&self.identity)]).await?;
        self.execute(client, &write::statements(&changes, &self.identity)?.changes).await?;

        let count = i64::try_from(history.len()).unwrap_or(i64::MAX);
        let numbers = "SELECT nextval(pg_get_serial_sequence('history', 'sequence')) FROM generate_series(1, $1)";
        let numbers = self.pool.reply(client.query_typed(numbers, &[(&count, Type::INT8)])).await?;
        let numbers: Vec<i64> = numbers.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        self.execute(client, &write::add_numbered_history(&history, &numbers, &self.identity)?).await?;
        // The last ones, as other commits wait for the lock of the events.
        self.execute(client, &write::add_all_events(&events, &self.identity)?).await
    }

    /// Executes statements in order, as many as it takes.
    async fn execute(&self, client: &Client, statements: &[Statement]) -> Result<(), Failure> {
        for chunk in statements.chunks(limits::MAX_STATEMENTS_PER_REPLY) {
            self.pool.reply(transaction::execute(client, chunk)).await?;
        }
        Ok(())
    }

    /// Begins a transaction that sets a mark; returns the connection and the marks.
    async fn begin(&self) -> Result<(Client, Moves), Failure> {
        let client = self.pool.connect().await?;
        self.pool.reply(client.batch_execute(&format!("BEGIN; {LOCK}"))).await?;
        let moves = self.pool.reply(self.moves(&client)).await?;
        Ok((client, moves))
    }

    /// Sets or removes the mark of the identity, and commits.
    async fn commit(&self, client: &Client, mut moves: Moves, mark: Option<MoveMark>) -> Result<(), Failure> {
        moves.set(&self.identity, mark);
        let text = serde_json::to_string(&moves).map_err(|error| Failure::Value(error.into()))?;
        self.pool.reply(client.execute_typed("UPDATE maqet SET moves = $1", &[(&text, Type::TEXT)])).await?;
        self.faults.reach(FaultPoint::StoreWritten);
        self.pool.reply(client.batch_execute("COMMIT")).await
    }

    async fn try_leave(&self, content: &StoreContent, mark: MoveMark) -> Result<bool, Failure> {
        let (client, moves) = self.begin().await?;
        moves.require_none(&self.identity, self.location())?;
        if self.content(&client).await? != *content {
            return Ok(false);
        }
        self.execute(&client, &[write::depart(&self.identity)]).await?;
        self.execute(&client, &write::clear(&self.identity)).await?;
        self.commit(&client, moves, Some(mark)).await?;
        Ok(true)
    }

    async fn try_clear_mark(&self, mark: &MoveMark) -> Result<(), Failure> {
        let (client, moves) = self.begin().await?;
        match moves.of(&self.identity) {
            Some(found) if found == mark => self.commit(&client, moves, None).await,
            found => Err(MoveMark::missing(found, self.location()).into()),
        }
    }

    async fn try_undo_import(&self, mark: &MoveMark) -> Result<(), Failure> {
        let (client, moves) = self.begin().await?;
        if moves.of(&self.identity) != Some(mark) {
            return Ok(());
        }
        self.execute(&client, &write::clear(&self.identity)).await?;
        self.commit(&client, moves, None).await
    }

    fn error(&self, failure: Failure) -> StoreError {
        failure.into_store(self.location(), ACTION)
    }
}

#[async_trait]
impl StoreTransfer for PostgresTransfer {
    fn url(&self) -> String {
        self.location().to_owned()
    }

    async fn mark(&self) -> Result<Option<MoveMark>, StoreError> {
        self.try_mark().await.map_err(|failure| self.error(failure))
    }

    async fn export(&self, mark: Option<MoveMark>) -> Result<StoreContent, StoreError> {
        self.try_export(mark.as_ref()).await.map_err(|failure| self.error(failure))
    }

    async fn import(
        &self,
        content: StoreContent,
        mark: MoveMark,
        replaced: Option<MoveMark>,
    ) -> Result<(), StoreError> {
        self.try_import(content, mark, replaced).await.map_err(|failure| self.error(failure))
    }

    async fn leave(&self, content: StoreContent, mark: MoveMark) -> Result<bool, StoreError> {
        let mut attempt = 1;
        loop {
            match self.try_leave(&content, mark.clone()).await {
                // Another commit waited for this one, and this one for it.
                Err(failure) if attempt < limits::MAX_ATTEMPTS && failure.is_rolled_back() => attempt += 1,
                left => return left.map_err(|failure| self.error(failure)),
            }
        }
    }

    async fn clear_mark(&self, mark: MoveMark) -> Result<(), StoreError> {
        self.try_clear_mark(&mark).await.map_err(|failure| self.error(failure))
    }

    async fn undo_import(&self, mark: MoveMark) -> Result<(), StoreError> {
        self.try_undo_import(&mark).await.map_err(|failure| self.error(failure))
    }
}
