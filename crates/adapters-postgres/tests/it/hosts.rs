//! Several hosts and users on one database.

use std::time::{Duration, Instant};

use maqet_adapters_postgres::limits;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::history::HistoryQuery;
use maqet_domain::port::{EventLog, HistoryLog, StorageLedger, Store, StoreError, VmRepository};
use maqet_domain::vm::{Phase, Revision};
use maqet_testkit::store::sample;

use crate::proxy::Proxy;
use crate::support::{Database, add, names, open};

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
    assert_eq!(there.history(&HistoryQuery::newest(10)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn test_foreign_vms_are_those_of_others_in_order() {
    let database = Database::new();
    for (number, (host, owner, name)) in
        (1..).zip([("b", "me", "web"), ("a", "you", "web"), ("a", "me", "web"), ("a", "me", "db")])
    {
        add(&database.open_as(host, owner), name, number).await.unwrap();
    }

    let foreign = database.open_as("a", "you").foreign().await.unwrap();

    let shown: Vec<_> = foreign.iter().map(|vm| format!("{} {} {}", vm.host, vm.owner, vm.entry.name)).collect();
    assert_eq!(shown, ["a me db", "a me web", "b me web"]);
}

#[tokio::test]
async fn test_events_of_another_host_are_announced() {
    let database = Database::new();
    let proxy = Proxy::to(&database.server.socket());
    let reader = open(&proxy.url(&database.schema.name), "a", "me");
    let writer = database.open_as("b", "me");
    add(&writer, "web", 1).await.unwrap();
    // The second read subscribes.
    for _ in 0..2 {
        assert_eq!(reader.events_after(0, 10).await.unwrap(), []);
    }
    proxy.turns();

    for _ in 0..100 {
        assert_eq!(reader.events_after(0, 10).await.unwrap(), []);
    }
    let asked = proxy.turns();
    let written = Instant::now();
    writer.commit(ChangeSet { events: vec![sample::event("one", None)], ..ChangeSet::default() }).await.unwrap();
    while reader.events_after(0, 10).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(written.elapsed() < Duration::from_millis(500), "the event was not announced");
    }

    assert!(asked <= 1, "{asked} questions");
}

#[tokio::test]
async fn test_events_of_the_store_itself_are_read_at_once() {
    let database = Database::new();
    let store = database.open();

    for number in 0..20 {
        for _ in 0..3 {
            assert_eq!(store.events_after(number, 10).await.unwrap(), []);
        }
        store.commit(ChangeSet { events: vec![sample::event("one", None)], ..ChangeSet::default() }).await.unwrap();
        assert_eq!(store.events_after(number, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn test_events_without_notifications_come_with_the_refresh() {
    let database = Database::new();
    let (reader, writer) = (database.open_as("a", "me"), database.open_as("b", "me"));
    add(&writer, "web", 1).await.unwrap();
    for _ in 0..3 {
        assert_eq!(reader.events_after(0, 10).await.unwrap(), []);
    }

    // Another program, or a pooler that drops notifications.
    database.query("INSERT INTO event (host, owner, at, kind, data) VALUES ('b', 'me', 0, 'x', '{}')");
    let written = Instant::now();
    while reader.events_after(0, 10).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(written.elapsed() < 3 * limits::LISTEN_REFRESH_INTERVAL, "the event was not found");
    }
}
