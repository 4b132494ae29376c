//! PostgreSQL databases.

use std::sync::Arc;

use async_trait::async_trait;
use maqet_adapters_postgres::{Identity, PostgresStore, PostgresUrl, Variables};
use maqet_domain::port::StoreError;
use maqet_fault_points::FaultPoints;

use super::{StoreContext, StoreFactory, StoreSetup};
use crate::Environment;

/// Uses PostgreSQL databases, to which their stores connect at their first use.
pub(super) struct PostgresFactory {
    pub(super) faults: FaultPoints,
}

#[async_trait]
impl StoreFactory for PostgresFactory {
    fn name(&self, address: &str, context: &StoreContext) -> Result<String, StoreError> {
        let url = parse(address, context)?;
        let location = url.location();
        Ok(location.strip_prefix("postgres://").unwrap_or(location).to_owned())
    }

    async fn open(&self, address: &str, context: StoreContext) -> Result<StoreSetup, StoreError> {
        let url = parse(address, &context)?;
        let (host, owner) = context.host_and_owner();
        let identity = Identity { host, owner };
        let store = PostgresStore::new(url, identity, context.copies).with_fault_points(self.faults.clone());
        let maintenance = Arc::new(store.maintenance());
        let transfer = Arc::new(store.transfer());
        Ok(StoreSetup::new(Arc::new(store)).with_maintenance(maintenance).with_transfer(transfer))
    }
}

fn parse(address: &str, context: &StoreContext) -> Result<PostgresUrl, StoreError> {
    PostgresUrl::parse(address, &variables(&context.environment), &context.host_and_owner().1)
}

fn variables(environment: &Environment) -> Variables {
    let value = |name: &'static str| Some((name, environment.get(name)?.to_str()?));
    Variables::NAMES.into_iter().filter_map(value).collect()
}
