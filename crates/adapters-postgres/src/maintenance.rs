//! The port [`StoreMaintenance`]: checks a database, and creates it again from copies of VMs.
//!
//! Damage of files is the server's business, as are backups: `pg_dump` and its relatives know how to make them while
//! other hosts write.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{RecoverySource, RepairReport, StoreError, StoreHealth, StoreMaintenance, VmCopy, VmPresence};
use maqet_domain::vm::VmId;
use maqet_fault_points::FaultPoints;
use tokio_postgres::Client;

use crate::error::Failure;
use crate::identity::Identity;
use crate::pool::Pool;
use crate::schema::{self, State};
use crate::{moves, read, transaction, write};

/// Maintains the database of a store; also one without tables.
pub struct PostgresMaintenance {
    pool: Arc<Pool>,
    identity: Arc<Identity>,
}

impl PostgresMaintenance {
    pub(crate) const fn new(pool: Arc<Pool>, identity: Arc<Identity>) -> Self {
        Self { pool, identity }
    }

    async fn try_check(&self) -> Result<Option<StoreHealth>, Failure> {
        let client = self.pool.connect().await?;
        let state = self.pool.reply(schema::state(&client, self.pool.url().location())).await?;
        if state.current_id().is_some() {
            self.require_unmoved(&client).await?;
        }
        if let Some(id) = state.current_id() {
            self.pool.require_same(&client, id).await?;
        }
        let State::Version { number: schema, .. } = state else { return Ok(None) };
        let vms = if schema == schema::newest() { self.read_all(&client).await? } else { 0 };
        let facts = "SELECT pg_database_size(current_database()), pg_is_in_recovery(), \
            current_setting('transaction_read_only') = 'on'";
        let facts = self.pool.reply(client.query_typed_one(facts, &[])).await?;
        let (bytes, is_standby, is_read_only): (i64, bool, bool) =
            (facts.try_get(0)?, facts.try_get(1)?, facts.try_get(2)?);
        let unwritable = match (is_standby, is_read_only) {
            (true, _) => Some("the server is a standby".to_owned()),
            (false, true) => Some("transactions are read-only".to_owned()),
            (false, false) => None,
        };
        let (newest_schema, journal, bytes) = (schema::newest(), String::new(), bytes.cast_unsigned());
        Ok(Some(StoreHealth { schema, newest_schema, journal, vms, bytes, unwritable }))
    }

    /// Refuses a database that is not used because of a move.
    async fn require_unmoved(&self, client: &Client) -> Result<(), Failure> {
        let mark = self.pool.reply(moves::mark(client, &self.identity)).await?;
        Ok(moves::require_none(mark.as_ref(), self.pool.url().recorded())?)
    }

    /// Reads every VM as commands do, as valid rows may still hold invalid values.
    async fn read_all(&self, client: &Client) -> Result<u64, Failure> {
        let vms = self.pool.reply(read::rows(client, &read::all_vms(&self.identity))).await?;
        self.pool.reply(read::rows(client, &read::all_storage(&self.identity))).await?;
        self.pool.reply(read::rows(client, &read::all_snapshots(&self.identity))).await?;
        Ok(vms.len() as u64)
    }

    /// Creates the tables of a database that lost them, unless another host did, and adds the VMs of `known` that it lacks.
    ///
    /// Damaged rows and tables are not repaired: they are those of other hosts as well, and a dump of the server has them.
    async fn try_repair(&self, known: Vec<VmCopy>) -> Result<RepairReport, Failure> {
        let client = self.pool.connect().await?;
        let location = self.pool.url().location();
        if self.pool.reply(schema::state(&client, location)).await?.current_id().is_none() {
            self.pool.reply(schema::migrate(&client, location)).await?;
        }
        self.require_unmoved(&client).await?;
        self.read_all(&client).await?;
        let ids: Vec<VmId> = known.iter().map(|copy| copy.vm.entry.id).collect();
        let presence = self.pool.reply(read::presence(&client, &ids, &self.identity)).await?;
        let missing = known.into_iter().zip(presence).filter(|(copy, presence)| copy.is_missing(*presence));
        self.try_add(missing.map(|(copy, _)| copy).collect()).await
    }

    /// Adds VMs, each in a commit of its own, and uses the database as that of the copies once it has them.
    async fn try_add(&self, missing: Vec<VmCopy>) -> Result<RepairReport, Failure> {
        let pool = self.pool.without_copies();
        let mut report = RepairReport::default();
        for VmCopy { vm, storage, .. } in missing {
            let (id, name) = (vm.entry.id, vm.entry.name.to_string());
            let added = ChangeSet::default().and(Change::VmAdded(Box::new(vm)));
            let changes = storage.into_iter().map(Change::StorageAdded).fold(added, ChangeSet::and);
            let statements = write::statements(&changes, &self.identity)?;
            match transaction::commit(&pool, &statements, &self.identity, &FaultPoints::default()).await {
                Ok(()) => report.vms.push((id, name, RecoverySource::Copy)),
                Err(Failure::Store(StoreError::Exists { .. } | StoreError::IdExists { .. })) => {}
                Err(failure) => return Err(failure),
            }
        }
        self.pool.accept().await?;
        report.vms.sort_by(|one, other| one.1.cmp(&other.1));
        Ok(report)
    }

    async fn try_presence(&self, vms: &[VmId]) -> Result<Vec<VmPresence>, Failure> {
        let client = self.pool.connect().await?;
        let location = self.pool.url().location();
        let state = self.pool.reply(schema::state(&client, location)).await?;
        if state != State::Absent && state.current_id().is_none() {
            self.pool.reply(schema::migrate(&client, location)).await?;
        }
        let presence = self.pool.reply(read::presence(&client, vms, &self.identity)).await?;
        if state != State::Absent {
            self.require_unmoved(&client).await?;
        }
        Ok(presence)
    }

    fn error(&self, action: &'static str, failure: Failure) -> StoreError {
        failure.into_store(self.pool.url().location(), action)
    }
}

#[async_trait]
impl StoreMaintenance for PostgresMaintenance {
    fn location(&self) -> String {
        self.pool.url().location().to_owned()
    }

    async fn check(&self) -> Result<Option<StoreHealth>, StoreError> {
        self.try_check().await.map_err(|failure| self.error("check the database", failure))
    }

    async fn backup(&self) -> Result<PathBuf, StoreError> {
        Err(StoreError::BackupUnsupported { location: self.location() })
    }

    async fn backup_to(&self, _: PathBuf) -> Result<(), StoreError> {
        Err(StoreError::BackupUnsupported { location: self.location() })
    }

    async fn newest_backup(&self) -> Option<PathBuf> {
        None
    }

    async fn repair(&self, known: Vec<VmCopy>) -> Result<RepairReport, StoreError> {
        self.try_repair(known).await.map_err(|failure| self.error("repair the database", failure))
    }

    async fn presence(&self, vms: Vec<VmId>) -> Result<Vec<VmPresence>, StoreError> {
        self.try_presence(&vms).await.map_err(|failure| self.error("look for VMs", failure))
    }

    async fn add_missing(&self, missing: Vec<VmCopy>) -> Result<RepairReport, StoreError> {
        self.try_add(missing).await.map_err(|failure| self.error("add VMs", failure))
    }
}
