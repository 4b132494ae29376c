//! Moves of what one user has, while other users and programs use the database.

use std::sync::Arc;
use std::time::Duration;

use maqet_domain::Timestamp;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{
    DatabaseLock, Guard, MoveId, MoveMark, Store, StoreContent, StoreError, StoreTransfer, VmRepository,
};
use maqet_testkit::store::sample;
use maqet_testkit::wait::LONG;
use tokio::time::{sleep, timeout};

use crate::support::{Database, add, names, open};

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
    let tables =
        "LOCK TABLE maqet, move, vm, definition, storage, snapshot, history, event, host, departed, used_images";
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

/// What a move of an older version left stays refused, and a process of that version that is running writes nothing more.
#[tokio::test]
async fn test_marks_of_schema_4_are_kept() {
    let database = Database::of_version(4);
    let mark_of_move = serde_json::to_string(&mark(true)).unwrap();
    database.query(&format!(
        "ALTER TABLE maqet ADD COLUMN moves text; \
        UPDATE maqet SET moves = '[{{\"host\": \"here\", \"owner\": \"me\", \"mark\": {mark_of_move}}}]'"
    ));

    let refused = database.open().list().await;

    assert!(matches!(&refused, Err(StoreError::Moved { to, .. }) if to == THERE), "{refused:?}");
    assert_eq!(database.open().transfer().mark().await.unwrap(), Some(mark(true)));
    assert_eq!(names(&database.open_as("other", "me")).await.unwrap(), [""; 0]);
    // It refuses what is neither null nor a list of marks.
    let of_schema_4 = database.query("SELECT moves FROM maqet");
    assert!(!of_schema_4.is_empty() && serde_json::from_str::<serde_json::Value>(&of_schema_4).is_err());
}

/// Newer versions may keep what this one does not know.
#[tokio::test]
async fn test_open_store_refuses_what_a_newer_version_migrated() {
    let database = Database::new();
    let store = database.open();
    add(&store, "web", 1).await.unwrap();
    database.query("UPDATE maqet SET version = 99");

    let (read, written) = (names(&store).await, add(&store, "db", 2).await);

    for refused in [read.map(drop), written.map(drop)] {
        assert!(matches!(refused, Err(StoreError::UnsupportedSchema { found: 99, .. })), "{refused:?}");
    }
    assert_eq!(database.query("SELECT count(*) FROM vm"), "1");
}

/// The lock of a move is that of the server, as other processes may have other directories.
#[tokio::test]
async fn test_lock_for_moves_is_waited_for_longer_than_statements() {
    let database = Database::new();
    let first = taken(database.open_as("locked", "me").transfer().lock("database.move", LONG).await.unwrap());
    let url = database.schema.url.replace("options=", "options=-cstatement_timeout%3D50%20-clock_timeout%3D50%20");

    let refused = open(&url, "locked", "me").transfer().lock("database.move", Duration::from_millis(1)).await.unwrap();
    let waiting = tokio::spawn(async move { open(&url, "locked", "me").transfer().lock("database.move", LONG).await });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_advisory_lock(1836148086%' \
        AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > '100 ms'";
    timeout(LONG, async {
        while database.query(waits) == "0" {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    drop(first);

    assert!(matches!(refused, DatabaseLock::InUse(None)));
    taken(waiting.await.unwrap().unwrap());
}

#[track_caller]
fn taken(lock: DatabaseLock) -> Box<dyn Guard> {
    match lock {
        DatabaseLock::Taken(guard) => guard,
        DatabaseLock::InUse(holder) => panic!("the lock is held by {holder:?}"),
    }
}

/// What a move of much takes is no fault of the server.
#[tokio::test]
async fn test_commit_that_waits_for_a_move_is_answered_as_busy() {
    let database = Database::new();
    // Locks are those of the server, which other tests share.
    add(&database.open_as("busy", "me"), "web", 1).await.unwrap();
    let moving = database.server.hold("SELECT pg_advisory_xact_lock(1836148085, hashtext('busy/me'))");
    let url = database.schema.url.replace("options=", "options=-clock_timeout%3D50%20");

    let refused = add(&open(&url, "busy", "me"), "db", 2).await;
    let of_other = add(&open(&url, "busy", "you"), "db", 3).await;
    drop(moving);

    assert!(matches!(refused, Err(StoreError::Busy { .. })), "{refused:?}");
    of_other.unwrap();
}
