//! Round trips, and what is lost on the way.

use std::time::{Duration, Instant};

use maqet_adapters_postgres::{Identity, PostgresStore, Timeouts};
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{EventLog, Store, StoreError, VmRepository};
use maqet_domain::vm::{Phase, Revision};
use maqet_testkit::store::sample;

use crate::proxy::{Cut, Proxy};
use crate::support::{Database, add, names, open, url};

fn impatient() -> Timeouts {
    let short = Duration::from_secs(1);
    Timeouts { reply: short, reconnect: short, outcome: short }
}

fn with_timeouts(text: &str, timeouts: Timeouts) -> PostgresStore {
    let identity = Identity { host: "here".to_owned(), owner: "me".to_owned() };
    PostgresStore::with_timeouts(url(text), identity, None, timeouts)
}

#[tokio::test]
async fn test_round_trips_read_takes_one_and_commit_two() {
    let database = Database::new();
    let proxy = Proxy::to(&database.server.socket());
    let store = open(&proxy.url(&database.schema.name), "here", "me");
    store.list().await.unwrap();
    proxy.turns();

    store.list().await.unwrap();
    assert_eq!(proxy.turns(), 1, "a list");
    store.by_name(&sample::name("web")).await.unwrap();
    assert_eq!(proxy.turns(), 1, "a VM by its name");
    let vm = sample::vm("web", 1);
    let mut changes = sample::adding(&vm);
    changes.history = Some(sample::history("add", Some(vm.entry.id)));
    changes.events = vec![sample::event("added", Some(&vm.entry)), sample::event("more", None)];
    store.commit(changes).await.unwrap();
    assert_eq!(proxy.turns(), 2, "an addition with history and events");
    let run = Some(sample::run(1, Phase::Starting));
    let change = Change::RunChanged { id: vm.entry.id, expected: Revision::FIRST, run };
    store.commit(ChangeSet::default().and(change)).await.unwrap();
    assert_eq!(proxy.turns(), 2, "a change");
}

#[tokio::test]
async fn test_first_read_of_a_process_takes_few_round_trips() {
    let database = Database::new();
    database.open().list().await.unwrap();
    let proxy = Proxy::to(&database.server.socket());

    open(&proxy.url(&database.schema.name), "here", "me").list().await.unwrap();

    // The start of the session, the version of the schema, the list.
    assert_eq!(proxy.turns(), 3);
}

/// Commits an addition with an event, whose connection is cut, and checks that it is written exactly once.
async fn check_cut(cut: Cut) {
    let database = Database::new();
    let proxy = Proxy::to(&database.server.socket());
    let store = open(&proxy.url(&database.schema.name), "here", "me");
    add(&store, "before", 1).await.unwrap();
    proxy.cut(cut);

    let vm = sample::vm("web", 2);
    let mut changes = sample::adding(&vm);
    changes.events = vec![sample::event("added", Some(&vm.entry))];
    let committed = store.commit(changes).await;

    assert!(committed.is_ok(), "{committed:?}");
    assert!(proxy.was_cut());
    assert_eq!(names(&database.open()).await.unwrap(), ["before", "web"]);
    assert_eq!(store.events_after(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn test_commit_connection_lost_before_it_is_repeated() {
    check_cut(Cut::BeforeCommit).await;
}

#[tokio::test]
async fn test_commit_connection_lost_after_it_is_found_done() {
    check_cut(Cut::AfterCommit).await;
}

#[tokio::test]
async fn test_network_stalled_read_times_out_and_works_later() {
    let database = Database::new();
    let proxy = Proxy::to(&database.server.socket());
    let store = with_timeouts(&proxy.url(&database.schema.name), impatient());
    store.list().await.unwrap();

    proxy.stall(true);
    let began = Instant::now();
    let stalled = store.list().await;
    let waited = began.elapsed();
    proxy.stall(false);
    let later = names(&store).await;

    assert!(matches!(stalled, Err(StoreError::TimedOut { .. })), "{stalled:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    assert_eq!(later.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn test_network_stalled_writer_holds_up_no_other_host() {
    let database = Database::new();
    let proxy = Proxy::to(&database.server.socket());
    let stalled = with_timeouts(&proxy.url(&database.schema.name), impatient());
    add(&stalled, "before", 1).await.unwrap();

    proxy.stall(true);
    let refused = add(&stalled, "web", 2).await;
    let other = add(&database.open_as("there", "me"), "web", 3).await;
    proxy.stall(false);

    assert!(matches!(refused, Err(StoreError::TimedOut { .. })), "{refused:?}");
    assert!(other.is_ok(), "{other:?}");
}

#[tokio::test]
async fn test_network_stalled_during_a_commit_leaves_it_unknown() {
    let database = Database::new();
    let proxy = Proxy::to(&database.server.socket());
    let stalled = with_timeouts(&proxy.url(&database.schema.name), impatient());
    add(&stalled, "before", 1).await.unwrap();
    proxy.cut(Cut::StallAtCommit);

    let vm = sample::vm("web", 2);
    let event = |vm: &maqet_domain::vm::Vm| vec![sample::event("added", Some(&vm.entry))];
    let unknown = stalled.commit(ChangeSet { events: event(&vm), ..sample::adding(&vm) }).await;
    // Of another host, also with an event.
    let other = sample::vm("web", 3);
    let written =
        database.open_as("there", "me").commit(ChangeSet { events: event(&other), ..sample::adding(&other) }).await;
    proxy.stall(false);

    assert!(matches!(unknown, Err(StoreError::Interrupted { .. })), "{unknown:?}");
    assert!(written.is_ok(), "{written:?}");
    assert_eq!(names(&stalled).await.unwrap(), ["before", "web"]);
}
