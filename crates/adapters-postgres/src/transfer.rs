//! The port [`StoreTransfer`]: reads and writes all that a database holds of one identity.
//!
//! Marks are set and removed by short transactions, for which commits of this identity wait; those of others and reads wait
//! for nothing. A database is filled after its mark was set, however long that takes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool::managed::Object;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{DatabaseLock, Guard, MoveMark, StoreContent, StoreError, StoreTransfer};
use maqet_fault_points::{FaultPoint, FaultPoints};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::error::Failure;
use crate::identity::Identity;
use crate::pool::Pool;
use crate::schema::{self, State};
use crate::write::Statement;
use crate::{limits, moves, read, transaction, write};

const ACTION: &str = "move the database";

/// Moves what a database holds of one identity.
pub struct PostgresTransfer {
    pool: Arc<Pool>,
    identity: Arc<Identity>,
    faults: FaultPoints,
}

/// A lock of the server that is held as long as the connection is open.
struct SessionLock {
    _client: Client,
}

impl Guard for SessionLock {
    fn retire(&mut self) {}
}

impl PostgresTransfer {
    pub(crate) const fn new(pool: Arc<Pool>, identity: Arc<Identity>, faults: FaultPoints) -> Self {
        Self { pool, identity, faults }
    }

    fn location(&self) -> &str {
        self.pool.url().location()
    }

    /// Opens a connection to a database with the newest schema; none if there are no tables.
    async fn connect(&self) -> Result<Option<Client>, Failure> {
        let client = self.pool.connect().await?;
        let state = self.pool.reply(schema::state(&client, self.location())).await?;
        if state == State::Absent {
            return Ok(None);
        }
        if state.current_id().is_none() {
            self.pool.reply(schema::migrate(&client, self.location())).await?;
        }
        Ok(Some(client))
    }

    async fn try_lock(&self, timeout: Duration) -> Result<DatabaseLock, Failure> {
        let client = self.pool.connect().await?;
        let locking = moves::lock_session(&client, &self.identity, timeout);
        let is_locked = self.pool.reply_within(timeout, locking).await?;
        // Which process has it is not known: it may run on another host.
        Ok(if is_locked {
            DatabaseLock::Taken(Box::new(SessionLock { _client: client }))
        } else {
            DatabaseLock::InUse(None)
        })
    }

    async fn try_mark(&self) -> Result<Option<MoveMark>, Failure> {
        match self.connect().await? {
            Some(client) => self.pool.reply(moves::mark(&client, &self.identity)).await,
            None => Ok(None),
        }
    }

    async fn try_export(&self, mark: Option<&MoveMark>) -> Result<StoreContent, Failure> {
        let client = match mark {
            // As for a command: a database that is lost, or was moved, is not an empty one.
            None => Some(Object::take(self.pool.get().await?)),
            Some(_) => self.connect().await?,
        };
        let missing = |found: Option<&MoveMark>| Err(MoveMark::missing(found, self.pool.url().recorded()).into());
        let Some(client) = client else { return missing(None) };
        self.pool.reply(client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")).await?;
        match self.pool.reply(moves::mark(&client, &self.identity)).await?.as_ref() {
            found if found == mark => self.content(&client).await,
            found => missing(found),
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
        if self.connect().await?.is_none() {
            let client = self.pool.connect().await?;
            self.pool.reply(schema::migrate(&client, self.location())).await?;
        }
        let (client, found) = self.begin().await?;
        let is_free = match &found {
            Some(_) => found == replaced,
            None => self.content(&client).await?.is_empty(),
        };
        if !is_free {
            let location = self.location().to_owned();
            return Err(StoreError::NotEmpty { location }.into());
        }
        // Here, as a command that finds the mark would wait for this row.
        self.execute(&client, &[write::show_life(&self.identity)]).await?;
        self.commit(&client, Some(&mark)).await?;

        self.pool.reply(client.batch_execute("BEGIN")).await?;
        // Kept until all is written: another move cannot replace it meanwhile.
        let found = self.pool.reply(moves::mark_for_update(&client, &self.identity)).await?;
        if found.as_ref() != Some(&mark) {
            return Err(MoveMark::missing(found.as_ref(), self.pool.url().recorded()).into());
        }
        self.execute(&client, &write::clear(&self.identity)).await?;
        self.fill(&client, content.renumbered()).await?;
        self.faults.reach(FaultPoint::StoreWritten);
        self.pool.reply(client.batch_execute(&format!("{}; COMMIT", write::NOTIFY))).await
    }

    async fn fill(&self, client: &Client, content: StoreContent) -> Result<(), Failure> {
        let StoreContent { vms, storage, snapshots, history, events } = content;
        let vms = vms.into_iter().map(|vm| Change::VmAdded(Box::new(vm)));
        let storage = storage.into_iter().map(Change::StorageAdded);
        let snapshots = snapshots.into_iter().map(|record| Change::SnapshotAdded(Box::new(record)));
        let changes = ChangeSet { changes: vms.chain(storage).chain(snapshots).collect(), ..ChangeSet::default() };
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

    /// Begins a transaction that sets a mark; returns the connection, and the mark as it is.
    async fn begin(&self) -> Result<(Client, Option<MoveMark>), Failure> {
        let client = self.pool.connect().await?;
        self.pool.reply(client.batch_execute("BEGIN")).await?;
        self.pool.reply(moves::lock(&client, &self.identity)).await?;
        let mark = self.pool.reply(moves::mark(&client, &self.identity)).await?;
        Ok((client, mark))
    }

    /// Sets or removes the mark of the identity, and commits.
    async fn commit(&self, client: &Client, mark: Option<&MoveMark>) -> Result<(), Failure> {
        self.pool.reply(moves::set(client, &self.identity, mark)).await?;
        self.pool.reply(client.batch_execute(&format!("{}; COMMIT", write::NOTIFY))).await
    }

    async fn try_leave(&self, content: &StoreContent, mark: &MoveMark) -> Result<bool, Failure> {
        let (client, found) = self.begin().await?;
        moves::require_none(found.as_ref(), self.pool.url().recorded())?;
        if self.content(&client).await? != *content {
            return Ok(false);
        }
        self.execute(&client, &[write::depart(&self.identity), write::forget_life(&self.identity)]).await?;
        self.execute(&client, &write::clear(&self.identity)).await?;
        self.faults.reach(FaultPoint::StoreWritten);
        self.commit(&client, Some(mark)).await?;
        Ok(true)
    }

    async fn try_clear_mark(&self, mark: &MoveMark) -> Result<(), Failure> {
        let (client, found) = self.begin().await?;
        match found {
            Some(found) if found == *mark => {
                self.faults.reach(FaultPoint::StoreWritten);
                self.commit(&client, None).await
            }
            found => Err(MoveMark::missing(found.as_ref(), self.pool.url().recorded()).into()),
        }
    }

    async fn try_undo_import(&self, mark: &MoveMark) -> Result<(), Failure> {
        let (client, found) = self.begin().await?;
        if found.as_ref() != Some(mark) {
            return Ok(());
        }
        self.execute(&client, &write::clear(&self.identity)).await?;
        self.execute(&client, &[write::forget_life(&self.identity)]).await?;
        self.commit(&client, None).await
    }

    fn error(&self, failure: Failure) -> StoreError {
        failure.into_store(self.location(), ACTION)
    }
}

#[async_trait]
impl StoreTransfer for PostgresTransfer {
    fn url(&self) -> String {
        self.pool.url().recorded().to_owned()
    }

    async fn lock(&self, _: &str, timeout: Duration) -> Result<DatabaseLock, StoreError> {
        self.try_lock(timeout).await.map_err(|failure| self.error(failure))
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
            match self.try_leave(&content, &mark).await {
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
