//! Servers that restart, refuse, or are only copies of others.

use std::sync::Arc;
use std::time::Duration;

use maqet_adapters_postgres::{Identity, PostgresStore, Timeouts};
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::event::{Event, kind};
use maqet_domain::port::{RecoverySource, Store, StoreError, StoreMaintenance, VmPresence, VmRepository};
use maqet_domain::vm::Revision;
use maqet_testkit::postgres::{PASSWORD_ROLE, PostgresServer};
use maqet_testkit::store::sample;
use maqet_testkit::wait::LONG;
use tokio::time::{sleep, timeout};

use crate::support::{Database, add, names, open, url};

#[tokio::test]
async fn test_server_restarted_store_reconnects() {
    let server = Arc::new(PostgresServer::start());
    let schema = server.schema();
    let store = open(&schema.url, "here", "me");
    add(&store, "web", 1).await.unwrap();

    for end in [PostgresServer::stop, PostgresServer::crash] {
        end(&server);
        let restarting = Arc::clone(&server);
        // Begins while the server is away.
        let restarted = tokio::task::spawn_blocking(move || restarting.resume());
        let read = names(&store).await;
        restarted.await.unwrap();
        let written = add(&store, "db", 2).await;

        assert!(read.unwrap().contains(&"web".to_owned()));
        assert!(matches!(written, Ok(_) | Err(StoreError::Exists { .. })), "{written:?}");
    }
    assert_eq!(names(&store).await.unwrap(), ["db", "web"]);
    check_killed_during_a_commit(&server, &schema.name, store).await;
}

/// A server that is killed in the middle of a commit: all of it is written, as by another attempt, or nothing.
async fn check_killed_during_a_commit(server: &PostgresServer, schema: &str, store: PostgresStore) {
    let store = Arc::new(store);
    let events = "SELECT pg_advisory_xact_lock(1836148084, 'event'::regclass::oid::int4)";
    let gate = server.hold(&format!("SET search_path = {schema}; {events}"));
    let vm = sample::vm("third", 3);
    let changes = ChangeSet { events: vec![sample::event("added", Some(&vm.entry))], ..sample::adding(&vm) };
    let committing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.commit(changes).await }
    });
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    timeout(LONG, async {
        while server.query(waits) == "0" {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();

    server.crash();
    drop(gate);
    server.resume();
    let committed = committing.await.unwrap();

    let vms = names(&store).await.unwrap();
    let events = server.query(&format!("SELECT count(*) FROM {schema}.event"));
    let is_written = vms.contains(&"third".to_owned());
    assert_eq!((is_written, events.as_str()), (committed.is_ok(), if is_written { "1" } else { "0" }), "{committed:?}");
    assert_eq!(vms.len(), 2 + usize::from(is_written));
}

#[tokio::test]
async fn test_server_away_is_a_clear_error_at_once() {
    let server = PostgresServer::start();
    let schema = server.schema();
    server.stop();

    let began = std::time::Instant::now();
    let refused = open(&schema.url, "here", "me").list().await;
    let unknown = open("postgres://no.such.host.invalid/maqet", "here", "me").list().await;

    assert!(matches!(refused, Err(StoreError::Unreachable { .. })), "{refused:?}");
    assert!(matches!(unknown, Err(StoreError::Unreachable { .. })), "{unknown:?}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test]
async fn test_server_database_missing_is_a_clear_error() {
    let database = Database::new();
    let other = database.schema.url.replace("/maqet?", "/nothing?");

    let refused = open(&other, "here", "me").list().await;

    let Err(StoreError::Unreachable { source, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(source.to_string(), r#"database "nothing" does not exist"#);
}

#[tokio::test]
async fn test_server_without_tls_cannot_be_required_it() {
    let server = PostgresServer::start_on_tcp("");
    let address = format!("postgres://maqet@{}/maqet?sslmode=require", server.tcp());

    let refused = open(&address, "here", "me").list().await;

    let Err(StoreError::Unreachable { source, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(source.to_string(), "server does not support TLS");
}

#[tokio::test]
async fn test_connection_limit_waits_and_then_says_so() {
    let database = Database::new();
    database.open().list().await.unwrap();
    let role = format!("limited_{}", database.schema.name);
    database.query(&format!("CREATE ROLE {role} LOGIN CONNECTION LIMIT 1"));
    database.query(&format!(
        "GRANT ALL ON SCHEMA {0} TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA {0} TO {role}",
        database.schema.name
    ));
    let limited = database.schema.url.replace("user=maqet", &format!("user={role}"));
    let timeouts = Timeouts { reconnect: Duration::from_millis(400), ..Timeouts::default() };
    let identity = Identity { host: "here".to_owned(), owner: "me".to_owned() };
    let new = || PostgresStore::with_timeouts(url(&limited), identity.clone(), None, timeouts);
    let (first, second) = (new(), new());
    first.list().await.unwrap();

    let refused = second.list().await;
    let waiting = tokio::spawn(async move { second.list().await });
    sleep(Duration::from_millis(100)).await;
    drop(first);
    let later = waiting.await.unwrap();

    assert!(matches!(refused, Err(StoreError::TooManyConnections { .. })), "{refused:?}");
    assert_eq!(later.unwrap(), []);
}

#[tokio::test]
async fn test_standby_can_be_read_and_refuses_writes() {
    let server = PostgresServer::start();
    let schema = server.schema();
    let store = open(&schema.url, "here", "me");
    add(&store, "web", 1).await.unwrap();
    let standby = server.standby();
    let copy = open(&standby.in_schema(&standby.url(), &schema.name), "here", "me");

    let read = names(&copy).await;
    let written = add(&copy, "db", 2).await;
    let health = copy.maintenance().check().await;

    assert_eq!(read.unwrap(), ["web"]);
    assert!(matches!(written, Err(StoreError::ReadOnly { .. })), "{written:?}");
    assert_eq!(health.unwrap().unwrap().unwritable.as_deref(), Some("the server is a standby"));
}

#[tokio::test]
async fn test_permission_missing_is_refused_access() {
    let database = Database::new();
    database.open().list().await.unwrap();
    let role = format!("poor_{}", database.schema.name);
    database.query(&format!("CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {} TO {role}", database.schema.name));

    let refused = open(&database.schema.url.replace("user=maqet", &format!("user={role}")), "here", "me").list().await;

    let Err(StoreError::AccessRefused { source, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(source.to_string(), "permission denied for table maqet");
}

#[tokio::test]
async fn test_schema_newer_is_refused() {
    let database = Database::new();
    add(&database.open(), "web", 1).await.unwrap();
    database.query("UPDATE maqet SET version = 99");

    let refused = names(&database.open()).await;

    assert!(matches!(refused, Err(StoreError::UnsupportedSchema { found: 99, .. })), "{refused:?}");
}

#[tokio::test]
async fn test_schema_of_another_program_is_refused_and_kept() {
    let database = Database::new();
    database.query("CREATE TABLE vm (theirs text)");

    let refused = names(&database.open()).await;

    assert!(matches!(refused, Err(StoreError::ServerCorrupt { .. })), "{refused:?}");
    assert_eq!(database.query("SELECT to_regclass('maqet') IS NULL, to_regclass('definition') IS NULL"), "t|t");
}

#[tokio::test]
async fn test_damaged_rows_and_tables_are_corrupt() {
    for damage in [
        "UPDATE definition SET content = '{'",
        "DELETE FROM definition",
        "ALTER TABLE vm DROP COLUMN pid",
        "UPDATE vm SET name = 'in valid'",
        "UPDATE vm SET boot = -1",
        "DELETE FROM maqet",
        "DROP TABLE definition",
    ] {
        let database = Database::new();
        let vm = add(&database.open(), "web", 1).await.unwrap();
        database.query(damage);

        let store = database.open();
        let read = store.by_id(&vm.entry.id).await;
        let checked = store.maintenance().check().await;
        let repaired = store.maintenance().repair(vec![maqet_domain::port::VmCopy::new(vm, Vec::new())]).await;

        assert!(matches!(read, Err(StoreError::ServerCorrupt { .. })), "{damage}: {read:?}");
        assert!(matches!(checked, Err(StoreError::ServerCorrupt { .. })), "{damage}: {checked:?}");
        assert!(matches!(repaired, Err(StoreError::ServerCorrupt { .. })), "{damage}: {repaired:?}");
    }
}

#[tokio::test]
async fn test_repair_of_a_database_without_tables_adds_the_known() {
    let database = Database::new();
    let maintenance = database.open().maintenance();
    let vm = sample::vm("web", 1);
    let storage = vec![sample::storage("/d/a", Some(vm.entry.id))];
    let copy = maqet_domain::port::VmCopy::new(vm.clone(), storage);

    assert_eq!(maintenance.check().await.unwrap(), None);
    let report = maintenance.repair(vec![copy.clone()]).await.unwrap();
    let again = maintenance.repair(vec![copy]).await.unwrap();

    assert_eq!(report.vms, [(vm.entry.id, "web".to_owned(), RecoverySource::Copy)]);
    assert_eq!(database.open().by_id(&vm.entry.id).await.unwrap(), Some(vm));
    assert_eq!(maintenance.check().await.unwrap().map(|health| health.vms), Some(1));
    assert_eq!(again.vms, []);
}

#[tokio::test]
async fn test_presence_tells_removed_vms_from_unknown_ones() {
    let database = Database::new();
    let (here, there) = (database.open(), database.open_as("there", "me"));
    let held = add(&there, "web", 1).await.unwrap().entry.id;
    let removed = add(&there, "db", 2).await.unwrap().entry.id;
    let mut removal = ChangeSet::default().and(Change::VmRemoved { id: removed, expected: Revision::FIRST });
    removal.events.push(Event {
        at: sample::moment(7),
        kind: kind::VM_REMOVED.to_owned(),
        vm: Some(removed),
        ..sample::event("x", None)
    });
    there.commit(removal).await.unwrap();

    let presence = here.maintenance().presence(vec![removed, sample::id(3), held]).await.unwrap();

    let expected = [VmPresence::Removed { at: sample::moment(7) }, VmPresence::Unknown, VmPresence::Held];
    assert_eq!(presence, expected);
}

#[tokio::test]
async fn test_password_wrong_or_missing_is_refused_access() {
    let database = Database::new();
    let guarded = database.schema.url.replace("user=maqet", &format!("user={PASSWORD_ROLE}"));

    let wrong = open(&format!("{guarded}&password=wrong"), "here", "me").list().await;
    let missing = open(&guarded, "here", "me").list().await;
    let no_role = open(&database.schema.url.replace("user=maqet", "user=unknown"), "here", "me").list().await;

    for refused in [wrong, missing, no_role] {
        assert!(matches!(refused, Err(StoreError::AccessRefused { .. })), "{refused:?}");
    }
}
