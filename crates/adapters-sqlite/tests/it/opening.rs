//! Stores that open their database at the first use.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use maqet_adapters_sqlite::{Options, SqliteStore};
use maqet_domain::error::Cause;
use maqet_domain::port::{Store, StoreError, StoreMaintenance, VmCopies, VmCopy, VmRepository};
use maqet_domain::vm::VmId;
use maqet_testkit::store::sample;
use tempfile::TempDir;
use uuid::Uuid;

/// Copies of so many VMs, of which only the number is known.
struct Copies(usize);

#[async_trait]
impl VmCopies for Copies {
    async fn write(&self, _: &VmCopy) -> Result<(), Cause> {
        Ok(())
    }

    async fn count(&self) -> usize {
        self.0
    }

    async fn all(&self) -> Vec<VmCopy> {
        Vec::new()
    }

    async fn of_other_databases(&self) -> Vec<VmCopy> {
        Vec::new()
    }

    async fn find(&self, _: &VmId) -> Option<VmCopy> {
        None
    }

    async fn remove(&self, _: &VmId) -> Result<(), Cause> {
        Ok(())
    }

    async fn hand_over(&self, _: &str, _: &str) -> Result<(), Cause> {
        Ok(())
    }

    async fn database_id(&self) -> Option<Uuid> {
        None
    }

    async fn record_database_id(&self, _: Uuid) -> Result<(), Cause> {
        Ok(())
    }
}

fn store(path: &Path, copies: usize) -> SqliteStore {
    SqliteStore::new(path, Options::default()).with_copies(Arc::new(Copies(copies)))
}

#[tokio::test]
async fn test_new_creates_the_database_at_its_first_use() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("data/maqet.db");

    let store = store(&path, 0);
    let was_created = path.exists();
    store.commit(sample::adding(&sample::vm("web", 1))).await.unwrap();

    assert!(!was_created);
    assert_eq!(SqliteStore::open(&path).unwrap().list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn test_new_failure_to_open_is_tried_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("maqet.db");
    fs::write(&path, "damaged").unwrap();
    let store = store(&path, 0);

    let read = store.list().await;
    let written = store.commit(sample::adding(&sample::vm("web", 1))).await;
    fs::remove_file(&path).unwrap();
    let retried = store.list().await;

    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
    assert!(matches!(written, Err(StoreError::Corrupt { .. })), "{written:?}");
    assert_eq!(retried.unwrap(), []);
}

#[tokio::test]
async fn test_lost_database_with_copies_is_not_created() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("maqet.db");
    let store = store(&path, 2);

    let read = store.list().await;
    let written = store.commit(sample::adding(&sample::vm("web", 1))).await;

    assert!(matches!(read, Err(StoreError::NotFound { vms: 2, .. })), "{read:?}");
    assert!(matches!(written, Err(StoreError::NotFound { vms: 2, .. })), "{written:?}");
    assert!(!path.exists());
}

#[tokio::test]
async fn test_repair_by_a_store_is_seen_by_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("maqet.db");
    let store = store(&path, 0);
    let vm = sample::vm("web", 1);
    store.commit(sample::adding(&vm)).await.unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "damaged").unwrap();

    store.maintenance().repair(vec![VmCopy::new(vm, Vec::new())]).await.unwrap();

    assert_eq!(store.list().await.unwrap()[0].name.as_str(), "web");
}
