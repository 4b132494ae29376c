//! Databases of older schemas, written by the program of their time.

use std::path::{Path, PathBuf};
use std::{fs, thread};

use maqet_adapters_sqlite::{SqliteMaintenance, SqliteStore};
use maqet_domain::change::ChangeSet;
use maqet_domain::config::Node;
use maqet_domain::event::{Event, RecordedEvent};
use maqet_domain::history::{HistoryEntry, HistoryQuery, Irreversible};
use maqet_domain::port::{EventLog, HistoryLog, StorageLedger, Store, StoreMaintenance, VmRepository};
use maqet_domain::vm::{Phase, StopReason};
use maqet_testkit::store::sample;
use rusqlite::Connection;
use tempfile::TempDir;

/// A database that maqet wrote at commit d09c362; see the README beside it.
pub(crate) const SCHEMA_1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/schema-1/maqet.db");

/// Copies the database of schema 1 into a folder of its own.
fn schema_1() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("maqet.db");
    fs::copy(SCHEMA_1, &path).unwrap();
    (folder, path)
}

async fn events(path: &Path) -> Vec<RecordedEvent> {
    SqliteStore::open(path).unwrap().events_after(0, u32::MAX).await.unwrap()
}

fn lines(events: &[RecordedEvent], kinds: &[&str]) -> String {
    let chosen = events.iter().map(|recorded| &recorded.event).filter(|event| kinds.contains(&event.kind.as_str()));
    let line = |event: &Event| {
        let name = event.vm_name.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{} {name} {}", event.kind, event.data)
    };
    chosen.map(line).collect::<Vec<_>>().join("\n")
}

fn version(path: &Path) -> i64 {
    Connection::open(path).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn test_migration_keeps_vms_runs_and_storage() {
    let (_folder, path) = schema_1();

    let store = SqliteStore::open(&path).unwrap();

    let web = store.by_name(&sample::name("web")).await.unwrap().unwrap();
    let run = web.entry.run.as_ref().unwrap();
    let storage = store.storage_of_vm(&web.entry.id).await.unwrap();
    assert_eq!(store.list().await.unwrap().len(), 2);
    assert_eq!((web.entry.revision.0, run.boot.0), (17, 4));
    assert!(matches!(run.phase, Phase::Ended(ending) if ending.reason == StopReason::HostQuit), "{:?}", run.phase);
    assert_eq!(run.paths.records.file_name().unwrap(), "boot-4");
    assert_eq!(web.origins["memory"], "web.yaml:1:9");
    assert_eq!(web.definition.get("memory").and_then(Node::scalar).as_deref(), Some("64M"));
    assert_eq!(storage[0].path, Path::new("/tmp/maqet-fixture/data/maqet/storage/web/hdd.qcow2"));
    assert_eq!(version(&path), 6);
}

#[tokio::test]
async fn test_migration_renames_values_of_events() {
    let (_folder, path) = schema_1();

    let events = events(&path).await;

    assert_eq!(events.len(), 29);
    insta::assert_snapshot!(lines(&events, &["vm.stopped", "device.removed", "snapshot.created"]), @r#"
    vm.stopped web {"reason":"host-quit","method":"quit"}
    device.removed web {"boot":2,"device":"stick","backend":"hotplug-stick"}
    device.removed web {"boot":2,"device":"pen","backend":null}
    vm.stopped web {"reason":"host-signal","method":"sigkill"}
    vm.stopped web {"reason":"crashed","method":"unobserved","boot":3}
    vm.stopped web {"reason":"host-quit","method":"quit"}
    snapshot.created web {"drive":"hdd","name":"clean"}
    snapshot.created web {"drive":"hdd","name":"other"}
    vm.stopped db {"reason":"host-signal","method":"sigkill"}
    "#);
}

#[tokio::test]
async fn test_migration_renames_every_stop_method_and_nothing_else() {
    let (_folder, path) = schema_1();
    let old = r#"INSERT INTO event (at, kind, vm, vm_name, data) VALUES
        (1, 'vm.stopped', NULL, 'm', '{"how":"nothing"}'), (2, 'vm.stopped', NULL, 'm', '{"how":"power-down"}'),
        (3, 'vm.stopped', NULL, 'm', '{"how":"term"}'), (4, 'vm.stopped', NULL, 'm', '{"reason":"\"how\":\"kill\""}'),
        (5, 'vm.start-failed', NULL, 'm', '{"how":"term","back_end":1}')"#;
    Connection::open(&path).unwrap().execute(old, []).unwrap();

    let events = events(&path).await;

    insta::assert_snapshot!(lines(&events[29..], &["vm.stopped", "vm.start-failed"]), @r#"
    vm.stopped m {"method":"none"}
    vm.stopped m {"method":"power-down"}
    vm.stopped m {"method":"sigterm"}
    vm.stopped m {"reason":"\"how\":\"kill\""}
    vm.start-failed m {"how":"term","back_end":1}
    "#);
}

#[tokio::test]
async fn test_migration_old_history_is_kept_without_reverts() {
    let (_folder, path) = schema_1();
    let store = SqliteStore::open(&path).unwrap();

    let old = store.history(&HistoryQuery::newest(u32::MAX)).await.unwrap();
    let undo = HistoryEntry { reverts: Some(9), ..sample::history("add", None) };
    store.commit(ChangeSet { history: Some(undo.clone()), ..ChangeSet::default() }).await.unwrap();
    let new = store.history(&HistoryQuery::newest(1)).await.unwrap();

    let operations: Vec<&str> = old.iter().map(|recorded| recorded.entry.call.operation.as_str()).collect();
    assert_eq!(
        operations,
        ["rm", "add", "snapshot.rm", "snapshot.load", "snapshot.create", "snapshot.create", "apply", "add", "add"]
    );
    assert_eq!(old[0].entry.inverse.as_ref().map(|call| call.operation.as_str()), Some("add"));
    assert!(old.iter().all(|recorded| recorded.entry.reverts.is_none()));
    assert!(old.iter().all(|recorded| recorded.entry.irreversible == Some(Irreversible::OlderVersion)));
    assert_eq!(old[8].entry.vm_name, Some(sample::name("web")));
    assert_eq!(new[0].entry, undo);
}

#[tokio::test]
async fn test_migration_backs_up_the_old_database_first() {
    let (_folder, path) = schema_1();

    SqliteStore::open(&path).unwrap();

    let backup = SqliteMaintenance::new(&path).newest_backup().await.unwrap();
    assert_eq!(version(&backup), 1);
}

#[tokio::test]
async fn test_migration_of_restored_backup_keeps_every_event() {
    let (_folder, path) = schema_1();
    let migrated = events(&path).await;
    let backup = SqliteMaintenance::new(&path).newest_backup().await.unwrap();

    fs::copy(backup, &path).unwrap();

    assert_eq!(events(&path).await, migrated);
}

#[test]
fn test_migration_by_eight_threads_happens_once() {
    let (_folder, path) = schema_1();

    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| SqliteStore::open(&path).unwrap());
        }
    });

    assert_eq!(version(&path), 6);
}

#[tokio::test]
async fn test_check_old_schema_counts_vms_and_migrates_nothing() {
    let (_folder, path) = schema_1();

    let health = SqliteMaintenance::new(&path).check().await.unwrap().unwrap();

    assert_eq!((health.schema, health.newest_schema, health.vms), (1, 6, 2));
    assert_eq!(version(&path), 1);
}

#[tokio::test]
async fn test_repair_damaged_header_of_old_schema_loses_nothing() {
    let (_folder, path) = schema_1();
    let (_other, migrated) = schema_1();
    let expected = events(&migrated).await;
    let mut content = fs::read(&path).unwrap();
    content[..100].fill(0);
    fs::write(&path, content).unwrap();

    let report = SqliteMaintenance::new(&path).repair(Vec::new()).await.unwrap();

    assert_eq!((report.vms.len(), report.log_entries, report.lost), (2, 38, Vec::new()));
    assert_eq!(events(&path).await, expected);
}

#[tokio::test]
async fn test_repair_fills_events_from_backup_of_old_schema() {
    let (folder, path) = schema_1();
    let (_other, migrated) = schema_1();
    let expected = events(&migrated).await;
    fs::create_dir(folder.path().join("backups")).unwrap();
    fs::rename(&path, folder.path().join("backups/maqet-20261129T161600000Z.db")).unwrap();
    fs::write(&path, "damaged").unwrap();

    let report = SqliteMaintenance::new(&path).repair(Vec::new()).await.unwrap();

    assert_eq!(report.vms.len(), 2);
    assert_eq!(events(&path).await, expected);
}

/// Repair grafts the first page of a new database onto one that lost it; without `snapshot`, which came later.
#[test]
fn test_migration_keeps_the_pages_of_tables() {
    let (folder, path) = schema_1();
    let new = folder.path().join("new.db");
    SqliteStore::open(&new).unwrap();
    let roots = |path: &Path| -> Vec<(String, i64)> {
        let connection = Connection::open(path).unwrap();
        let sql = "SELECT name, rootpage FROM sqlite_schema WHERE type = 'table' AND name <> 'snapshot' ORDER BY name";
        let mut statement = connection.prepare(sql).unwrap();
        let roots = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        roots.map(Result::unwrap).collect()
    };

    assert_eq!(roots(&path), roots(&new));
}
