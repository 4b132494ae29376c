//! The contract of the ports.

use std::sync::Arc;

use maqet_domain::port::Store;
use maqet_testkit::store::conformance::Subject;

use crate::support::Database;

impl Subject for Database {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(Self::open(self))
    }
}

maqet_testkit::store_conformance!(Database::new());
