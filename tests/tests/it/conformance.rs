//! Every store implements the contract of the ports.

mod memory {
    use std::sync::Arc;

    use maqet_domain::port::Store;
    use maqet_testkit::store::MemoryStore;
    use maqet_testkit::store::conformance::Subject;

    struct Memory(MemoryStore);

    impl Subject for Memory {
        fn open(&self) -> Arc<dyn Store> {
            Arc::new(self.0.clone())
        }
    }

    maqet_testkit::store_conformance!(Memory(MemoryStore::new()));
}

mod sqlite {
    use std::sync::Arc;

    use maqet_adapters_sqlite::{Options, SqliteStore, SqliteTransfer};
    use maqet_domain::port::{Store, StoreTransfer};
    use maqet_fault_points::FaultPoints;
    use maqet_testkit::store::conformance::{Subject, TransferSubject};
    use tempfile::TempDir;

    struct Sqlite(TempDir);

    impl Subject for Sqlite {
        fn open(&self) -> Arc<dyn Store> {
            Arc::new(SqliteStore::open(self.0.path().join("maqet.db")).expect("the database can be opened"))
        }
    }

    /// One that is opened at its first use, as the one of a command.
    struct Movable(TempDir);

    impl Subject for Movable {
        fn open(&self) -> Arc<dyn Store> {
            Arc::new(SqliteStore::new(self.0.path().join("maqet.db"), Options::default()))
        }
    }

    impl TransferSubject for Movable {
        fn transfer(&self) -> Arc<dyn StoreTransfer> {
            Arc::new(SqliteTransfer::new(self.0.path().join("maqet.db"), FaultPoints::default()))
        }
    }

    maqet_testkit::transfer_conformance!(Movable(TempDir::new().expect("a folder can be made")));
    maqet_testkit::store_conformance!(Sqlite(TempDir::new().expect("a folder can be made")));
}
