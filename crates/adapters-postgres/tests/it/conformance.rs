//! The contract of the ports.

use std::sync::Arc;

use maqet_domain::port::{Store, StoreTransfer};
use maqet_testkit::store::conformance::{Subject, TransferSubject};

use crate::support::Database;

impl Subject for Database {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(Self::open(self))
    }
}

impl TransferSubject for Database {
    fn transfer(&self) -> Arc<dyn StoreTransfer> {
        Arc::new(Self::open(self).transfer())
    }
}

maqet_testkit::transfer_conformance!(Database::new());
maqet_testkit::store_conformance!(Database::new());
