//! Stores for tests.

use std::sync::Arc;

use maqet_adapters_postgres::{Identity, PostgresStore, PostgresUrl, Variables};
use maqet_domain::port::{Store, StoreError, VmRepository};
use maqet_domain::vm::Vm;
use maqet_testkit::postgres::{PostgresSchema, PostgresServer, server};
use maqet_testkit::store::sample;

/// The migrations of older versions.
const SCHEMAS: [&str; 4] = [
    include_str!("../../src/schema/v1.sql"),
    include_str!("../../src/schema/v2.sql"),
    include_str!("../../src/schema/v3.sql"),
    include_str!("../../src/schema/v4.sql"),
];

/// A schema of a server that lives as long as this.
pub(crate) struct Database {
    pub(crate) server: Arc<PostgresServer>,
    pub(crate) schema: PostgresSchema,
}

impl Database {
    /// Creates a schema on the server that all tests share.
    pub(crate) fn new() -> Self {
        let server = server();
        let schema = server.schema();
        Self { server, schema }
    }

    /// Creates a schema with the tables of an older version.
    pub(crate) fn of_version(version: usize) -> Self {
        let database = Self::new();
        let steps = SCHEMAS[..version].join("\n");
        database.query(&format!(
            "BEGIN; CREATE TABLE maqet (version bigint NOT NULL); INSERT INTO maqet VALUES ({version});\n{steps}\nCOMMIT"
        ));
        database
    }

    /// Opens the store of `me` on `here`.
    pub(crate) fn open(&self) -> PostgresStore {
        self.open_as("here", "me")
    }

    /// Opens the store of a user of a host.
    pub(crate) fn open_as(&self, host: &str, owner: &str) -> PostgresStore {
        open(&self.schema.url, host, owner)
    }

    /// Executes SQL in the schema.
    #[track_caller]
    pub(crate) fn query(&self, sql: &str) -> String {
        self.server.query(&format!("SET search_path = {}; {sql}", self.schema.name))
    }
}

/// Parses a URL, with its scheme.
pub(crate) fn url(url: &str) -> PostgresUrl {
    let address = url.strip_prefix("postgres://").unwrap_or(url);
    PostgresUrl::parse(address, &Variables::default(), "me").unwrap()
}

/// Opens the store of a user of a host.
pub(crate) fn open(text: &str, host: &str, owner: &str) -> PostgresStore {
    PostgresStore::new(url(text), Identity { host: host.to_owned(), owner: owner.to_owned() }, None)
}

/// Adds a VM.
pub(crate) async fn add(store: &PostgresStore, name: &str, number: u32) -> Result<Vm, StoreError> {
    let vm = sample::vm(name, number);
    store.commit(sample::adding(&vm)).await.map(|()| vm)
}

/// Returns the names of all VMs.
pub(crate) async fn names(store: &PostgresStore) -> Result<Vec<String>, StoreError> {
    Ok(store.list().await?.into_iter().map(|entry| entry.name.to_string()).collect())
}
