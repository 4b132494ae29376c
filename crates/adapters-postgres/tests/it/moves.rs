//! Moves of what one user has, while other users and programs use the database.

use std::sync::Arc;
use std::time::Duration;

use maqet_domain::Timestamp;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{MoveId, MoveMark, Store, StoreContent, StoreError, StoreTransfer, VmRepository};
use maqet_testkit::store::sample;
use maqet_testkit::wait::LONG;
use tokio::time::{sleep, timeout};

use crate::support::{Database, add, names};

const THERE: &str = "sqlite:/d/there.db";

fn mark(is_to: bool) -> MoveMark {
    let (id, url, at) = (MoveId::new([1; 16]), THERE.to_owned(), Timestamp::UNIX_EPOCH);
    if is_to { MoveMark::To { id, url, at } } else { MoveMark::From { id, url, at } }
}

/// Returns what another database holds, and leaves `database` empty.
async fn content(database: &Database) -> StoreContent {
    let store = database.open();
    let vm = add(&store, "web", 1).await.unwrap();
    let events = vec![sample::event("one", Some(&vm.entry))];
    store.commit(ChangeSet { events, ..ChangeSet::default() }).await.unwrap();
    let content = store.transfer().export(None).await.unwrap();
    store.transfer().leave(content.clone(), mark(true)).await.unwrap();
    content
}

/// A dump holds shared locks of all tables for as long as it takes.
#[tokio::test]
async fn test_move_during_a_dump_waits_for_nothing() {
    let database = Database::new();
    add(&database.open_as("other", "me"), "db", 2).await.unwrap();
    let tables = "LOCK TABLE maqet, move, vm, definition, storage, snapshot, history, event, host, departed";
    let dump = format!("SET search_path = {}; {tables} IN ACCESS SHARE MODE", database.schema.name);
    let dump = database.server.hold(&dump);

    let content = content(&database).await;
    let transfer = database.open().transfer();
    transfer.import(content, mark(false), Some(mark(true))).await.unwrap();
    transfer.clear_mark(mark(false)).await.unwrap();

    drop(dump);
    assert_eq!(names(&database.open()).await.unwrap(), ["web"]);
}

/// However long a database is filled, others read and write it.
#[tokio::test]
async fn test_import_under_way_holds_up_no_other_host() {
    let database = Database::new();
    let other = database.open_as("other", "me");
    let content = content(&database).await;
    let events = "SELECT pg_advisory_xact_lock(1836148084, 'event'::regclass::oid::int4)";
    let gate = database.server.hold(&format!("SET search_path = {}; {events}", database.schema.name));
    let transfer = Arc::new(database.open().transfer());

    let filling = tokio::spawn({
        let transfer = Arc::clone(&transfer);
        async move { transfer.import(content, mark(false), Some(mark(true))).await }
    });
    let waits =
        "SELECT count(*) FROM pg_locks WHERE classid = 1836148084 AND objid = 'event'::regclass::oid AND NOT granted";
    timeout(LONG, async {
        while database.query(waits) == "0" {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    // Without an event: this test holds their lock.
    other.commit(ChangeSet::default().and(Change::VmAdded(Box::new(sample::vm("db", 2))))).await.unwrap();
    let listed = other.list().await.unwrap().len();
    let own = database.open().list().await;
    drop(gate);
    filling.await.unwrap().unwrap();

    assert_eq!(listed, 1);
    assert!(matches!(own, Err(StoreError::MoveUnfinished { .. })), "{own:?}");
    assert_eq!(transfer.export(Some(mark(false))).await.unwrap().vms.len(), 1);
}

/// What a move of an older version left stays refused.
#[tokio::test]
async fn test_marks_of_schema_4_are_kept() {
    let database = Database::new();
    content(&database).await;
    database.query(
        "ALTER TABLE maqet ADD COLUMN moves text; \
        UPDATE maqet SET version = 4, moves = (SELECT json_agg(json_build_object('host', host, 'owner', owner, \
            'mark', mark::json))::text FROM move); DROP TABLE move",
    );

    let refused = database.open().list().await;

    assert!(matches!(&refused, Err(StoreError::Moved { to, .. }) if to == THERE), "{refused:?}");
    assert_eq!(database.open().transfer().mark().await.unwrap(), Some(mark(true)));
    assert_eq!(names(&database.open_as("other", "me")).await.unwrap(), [""; 0]);
}
