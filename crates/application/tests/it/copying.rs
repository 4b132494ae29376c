//! A copy of each VM is kept outside of the store; its failure fails nothing.

use std::sync::{Arc, Mutex};

use maqet_application::CopyingStore;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{MockVmCopies, Store, StoreError};
use maqet_domain::vm::{Phase, Revision};
use maqet_testkit::store::{MemoryStore, sample};

/// The copies in order: the name of the VM and the number of its images.
type Kept = Arc<Mutex<Vec<(String, usize)>>>;

fn store() -> (CopyingStore, Kept) {
    let kept = Kept::default();
    let list = Arc::clone(&kept);
    let mut copies = MockVmCopies::new();
    copies.expect_keep().returning(move |copy| {
        list.lock().expect("no thread panics").push((copy.vm.entry.name.to_string(), copy.storage.len()));
        Ok(())
    });
    (CopyingStore::new(Arc::new(MemoryStore::default()), Arc::new(copies)), kept)
}

fn taken(kept: &Kept) -> Vec<(String, usize)> {
    std::mem::take(&mut *kept.lock().expect("no thread panics"))
}

#[tokio::test]
async fn test_copy_is_written_for_definition_and_storage_changes() {
    let (store, kept) = store();
    let (web, db) = (sample::vm("web", 1), sample::vm("db", 2));
    let both = ChangeSet::default()
        .and(Change::VmAdded(Box::new(web.clone())))
        .and(Change::VmAdded(Box::new(db.clone())))
        .and(Change::StorageAdded(sample::storage("/d/db.qcow2", Some(db.entry.id))));

    store.commit(both).await.expect("the store is in memory");

    assert_eq!(taken(&kept), [("web".to_owned(), 0), ("db".to_owned(), 1)]);
    let definition = Change::DefinitionChanged {
        id: web.entry.id,
        expected: Revision::FIRST,
        definition: sample::other_definition(),
        origins: sample::origins("b.yaml"),
    };
    store.commit(ChangeSet::default().and(definition)).await.expect("the store is in memory");
    assert_eq!(taken(&kept), [("web".to_owned(), 0)]);
}

#[tokio::test]
async fn test_copy_is_unchanged_by_starts_and_refused_commits() {
    let (store, kept) = store();
    let web = sample::vm("web", 1);
    store.commit(sample::adding(&web)).await.expect("the store is in memory");
    taken(&kept);

    let run = Some(sample::run(1, Phase::Running));
    let started = Change::RunChanged { id: web.entry.id, expected: Revision::FIRST, run };
    store.commit(ChangeSet::default().and(started)).await.expect("the store is in memory");
    let again = store.commit(sample::adding(&web)).await;

    assert!(matches!(again, Err(StoreError::NameTaken { .. })), "{again:?}");
    assert_eq!(taken(&kept), []);
}

#[tokio::test]
async fn test_copy_failing_does_not_fail_the_commit() {
    let mut copies = MockVmCopies::new();
    copies.expect_keep().returning(|_| Err("no space".into()));
    let inner = Arc::new(MemoryStore::default());
    let store = CopyingStore::new(Arc::clone(&inner) as _, Arc::new(copies));

    store.commit(sample::adding(&sample::vm("web", 1))).await.expect("the VM is in the store");

    let found = maqet_domain::port::VmRepository::list(inner.as_ref()).await.expect("the store is in memory");
    assert_eq!(found.len(), 1);
}
