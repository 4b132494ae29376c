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

    use maqet_adapters_sqlite::SqliteStore;
    use maqet_domain::port::Store;
    use maqet_testkit::store::conformance::Subject;
    use tempfile::TempDir;

    struct Sqlite(TempDir);

    impl Subject for Sqlite {
        fn open(&self) -> Arc<dyn Store> {
            Arc::new(SqliteStore::open(self.0.path().join("maqet.db")).expect("the database can be opened"))
        }
    }

    maqet_testkit::store_conformance!(Sqlite(TempDir::new().expect("a folder can be made")));
}
