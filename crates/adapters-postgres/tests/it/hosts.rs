//! Several hosts and users on one database.

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{EventLog, HistoryLog, StorageLedger, Store, StoreError, VmRepository};
use maqet_domain::vm::{Phase, Revision};
use maqet_testkit::store::sample;

use crate::support::{Database, add, names};

#[tokio::test]
async fn test_hosts_and_users_have_their_own_names_and_vms() {
    let database = Database::new();
    let stores = [("a", "me"), ("b", "me"), ("a", "you")].map(|(host, owner)| database.open_as(host, owner));

    for (number, store) in (1..).zip(&stores) {
        let vm = add(store, "web", number).await.unwrap();
        let record = Change::StorageAdded(sample::storage("/d/web", Some(vm.entry.id)));
        store.commit(ChangeSet::default().and(record)).await.unwrap();
    }

    for (number, store) in (1..).zip(&stores) {
        assert_eq!(names(store).await.unwrap(), ["web"]);
        let found = store.by_name(&sample::name("web")).await.unwrap().unwrap();
        assert_eq!(found.entry.id, sample::id(number));
        assert_eq!(store.storage_of_vm(&sample::id(number)).await.unwrap().len(), 1);
        assert_eq!(store.by_id_prefix("").await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn test_vm_of_another_host_cannot_be_changed_or_removed() {
    let database = Database::new();
    let (here, there) = (database.open_as("a", "me"), database.open_as("b", "me"));
    let vm = add(&here, "web", 1).await.unwrap();
    let id = vm.entry.id;
    let expected = Revision::FIRST;
    let (definition, origins) = (sample::other_definition(), sample::origins("x"));

    for change in [
        Change::VmRemoved { id, expected },
        Change::RunChanged { id, expected, run: Some(sample::run(1, Phase::Starting)) },
        Change::PendingChanged { id, expected, pending: Some(Box::new(sample::pending("x"))) },
        Change::DefinitionChanged { id, expected, definition, origins },
    ] {
        let refused = there.commit(ChangeSet::default().and(change)).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    }

    assert_eq!(there.by_id(&id).await.unwrap(), None);
    assert_eq!(here.by_id(&id).await.unwrap(), Some(vm));
}

#[tokio::test]
async fn test_records_of_removed_vms_stay_with_their_host() {
    let database = Database::new();
    let (here, there) = (database.open_as("a", "me"), database.open_as("b", "me"));
    let record = ChangeSet::default().and(Change::StorageAdded(sample::storage("/d/x", None)));

    here.commit(record).await.unwrap();

    assert_eq!(here.storage_without_vm().await.unwrap().len(), 1);
    assert_eq!(there.storage_without_vm().await.unwrap(), []);
}

#[tokio::test]
async fn test_history_and_events_are_common_to_all_hosts() {
    let database = Database::new();
    let (here, there) = (database.open_as("a", "me"), database.open_as("b", "you"));
    let events = vec![sample::event("one", None)];

    here.commit(ChangeSet { events, history: Some(sample::history("add", None)), ..ChangeSet::default() })
        .await
        .unwrap();

    assert_eq!(there.events_after(0, 10).await.unwrap().len(), 1);
    assert_eq!(there.newest_history(10).await.unwrap().len(), 1);
}
