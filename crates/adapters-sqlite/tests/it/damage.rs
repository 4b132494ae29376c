//! Files that are not a valid database of maqet are reported and left untouched.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use maqet_adapters_sqlite::SqliteStore;
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{Store, StoreError, VmRepository};
use maqet_domain::vm::{Phase, Revision};
use maqet_testkit::store::sample;
use rusqlite::Connection;
use tempfile::TempDir;

/// A database of a few hundred VMs, closed, and its folder.
async fn filled() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("maqet.db");
    let store = SqliteStore::open(&path).unwrap();
    let mut changes = ChangeSet::default();
    for number in 0..300 {
        changes.changes.append(&mut sample::adding(&sample::vm(&format!("vm-{number}"), number)).changes);
    }
    store.commit(changes).await.unwrap();
    drop(store);
    (folder, path)
}

/// Opens and lists, as every command does.
async fn used(path: &Path) -> Result<usize, StoreError> {
    Ok(SqliteStore::open(path)?.list().await?.len())
}

#[track_caller]
fn check_corrupt(result: Result<usize, StoreError>, expected: &str) {
    match result {
        Err(StoreError::Corrupt { detail, .. }) => assert!(detail.contains(expected), "{detail}"),
        other => panic!("expected a damaged database, not {other:?}"),
    }
}

#[track_caller]
fn check_unavailable(result: Result<usize, StoreError>, expected: &str) {
    match result {
        Err(StoreError::Unavailable { source, .. }) => assert!(source.to_string().contains(expected), "{source}"),
        other => panic!("expected a database that cannot be used, not {other:?}"),
    }
}

#[tokio::test]
async fn test_open_empty_file_is_corrupt_and_untouched() {
    let (_folder, path) = filled().await;
    fs::write(&path, "").unwrap();

    check_corrupt(used(&path).await, "the file is empty");

    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[tokio::test]
async fn test_open_truncated_file_is_corrupt_and_untouched() {
    let (_folder, path) = filled().await;
    let whole = fs::read(&path).unwrap();

    for length in [1, 50, 99, 100, 512, 4095, 4096, 8192, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..length]).unwrap();

        check_corrupt(used(&path).await, "");

        assert_eq!(fs::read(&path).unwrap(), whole[..length], "{length} bytes");
    }
}

#[tokio::test]
async fn test_open_text_file_is_corrupt_and_untouched() {
    let (_folder, path) = filled().await;
    fs::write(&path, "name: web\n".repeat(1000)).unwrap();

    check_corrupt(used(&path).await, "it is not an SQLite database");

    assert_eq!(fs::metadata(&path).unwrap().len(), 10_000);
}

#[tokio::test]
async fn test_open_broken_header_is_corrupt() {
    let (_folder, path) = filled().await;
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"XXXX", 0).unwrap();

    check_corrupt(used(&path).await, "it is not an SQLite database");
}

#[tokio::test]
async fn test_list_broken_page_is_corrupt() {
    let (_folder, path) = filled().await;
    let root: u64 = {
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'vm'";
        let page: i64 = Connection::open(&path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
        page.try_into().unwrap()
    };
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 4096], (root - 1) * 4096).unwrap();

    check_corrupt(used(&path).await, "malformed");
}

#[tokio::test]
async fn test_list_invalid_name_is_corrupt() {
    let (_folder, path) = filled().await;
    Connection::open(&path).unwrap().execute("UPDATE vm SET name = '../x' WHERE name = 'vm-7'", []).unwrap();

    check_corrupt(used(&path).await, "../x");
}

#[tokio::test]
async fn test_by_name_missing_definition_is_corrupt() {
    let (_folder, path) = filled().await;
    Connection::open(&path).unwrap().execute("DELETE FROM definition", []).unwrap();
    let store = SqliteStore::open(&path).unwrap();

    let found = store.by_name(&sample::name("vm-7")).await;

    assert!(matches!(found, Err(StoreError::Corrupt { .. })), "{found:?}");
}

#[tokio::test]
async fn test_by_name_invalid_origins_are_corrupt() {
    let (_folder, path) = filled().await;
    Connection::open(&path).unwrap().execute("UPDATE definition SET origins = '[1]'", []).unwrap();
    let store = SqliteStore::open(&path).unwrap();

    let found = store.by_name(&sample::name("vm-7")).await;

    assert!(matches!(found, Err(StoreError::Corrupt { .. })), "{found:?}");
}

#[tokio::test]
async fn test_list_invalid_forwards_are_corrupt() {
    let (_folder, path) = filled().await;
    let store = SqliteStore::open(&path).unwrap();
    let id = store.by_name(&sample::name("vm-7")).await.unwrap().unwrap().entry.id;
    let run = Some(sample::run(1, Phase::Running));
    let started = Change::RunChanged { id, expected: Revision::FIRST, run };
    store.commit(ChangeSet::default().and(started)).await.unwrap();
    drop(store);
    let sql = "UPDATE vm SET forwards = '[{\"protocol\": \"carrier pigeon\"}]' WHERE name = 'vm-7'";
    Connection::open(&path).unwrap().execute(sql, []).unwrap();

    check_corrupt(used(&path).await, "carrier pigeon");
}

#[tokio::test]
async fn test_list_missing_table_is_corrupt() {
    let (_folder, path) = filled().await;
    let foreign_keys_off = "PRAGMA foreign_keys = OFF; DROP TABLE vm;";
    Connection::open(&path).unwrap().execute_batch(foreign_keys_off).unwrap();

    check_corrupt(used(&path).await, "no such table: vm");
}

#[tokio::test]
async fn test_open_foreign_database_is_refused_and_untouched() {
    let (_folder, path) = filled().await;
    fs::remove_file(&path).unwrap();
    let foreign = "CREATE TABLE note (text TEXT); INSERT INTO note VALUES ('mine'); PRAGMA user_version = 1;";
    Connection::open(&path).unwrap().execute_batch(foreign).unwrap();
    let before = fs::read(&path).unwrap();

    check_corrupt(used(&path).await, "of another program");

    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn test_open_newer_schema_is_refused_and_untouched() {
    let (_folder, path) = filled().await;
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 999;").unwrap();
    let before = fs::read(&path).unwrap();

    let result = used(&path).await;

    assert!(matches!(result, Err(StoreError::UnsupportedSchema { found: 999, known: 6, .. })), "{result:?}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// Also by a process that opened it before another one migrated it.
#[tokio::test]
async fn test_newer_schema_is_refused_by_an_open_store() {
    let (_folder, path) = filled().await;
    let store = SqliteStore::open(&path).unwrap();
    let new = |number: u32| store.commit(sample::adding(&sample::vm(&format!("vm-{number}"), number)));
    new(300).await.unwrap();
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 999;").unwrap();

    let refused = [store.list().await.map(drop), new(301).await];

    for refused in refused {
        assert!(matches!(refused, Err(StoreError::UnsupportedSchema { found: 999, known: 6, .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn test_open_unfinished_schema_is_corrupt() {
    let (_folder, path) = filled().await;
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 0;").unwrap();

    check_corrupt(used(&path).await, "invalid schema version 0");
}

#[tokio::test]
async fn test_open_log_without_database_is_corrupt() {
    let (_folder, path) = filled().await;
    fs::remove_file(&path).unwrap();
    fs::write(path.with_extension("db-wal"), "commits").unwrap();

    check_corrupt(used(&path).await, "its write-ahead log exists");

    assert!(!path.exists());
}

#[tokio::test]
async fn test_open_symlink_to_file_is_refused() {
    let (folder, path) = filled().await;
    for (name, target) in [("link.db", path.clone()), ("dangling.db", folder.path().join("nothing"))] {
        let link = folder.path().join(name);
        symlink(&target, &link).unwrap();

        check_unavailable(used(&link).await, "it is a symbolic link");
    }

    assert!(!folder.path().join("nothing").exists());
}

#[tokio::test]
async fn test_open_through_symlinked_folder_works() {
    let (folder, _path) = filled().await;
    let elsewhere = TempDir::new().unwrap();
    let link = elsewhere.path().join("data");
    symlink(folder.path(), &link).unwrap();

    assert_eq!(used(&link.join("maqet.db")).await.unwrap(), 300);
}

#[tokio::test]
async fn test_open_folder_is_refused() {
    let (folder, _path) = filled().await;

    check_unavailable(used(folder.path()).await, "it is not a regular file");
}

#[tokio::test]
async fn test_commit_without_wal_mode_enables_it() {
    let (_folder, path) = filled().await;
    Connection::open(&path).unwrap().execute_batch("PRAGMA journal_mode = DELETE;").unwrap();
    let store = SqliteStore::open(&path).unwrap();

    store.commit(sample::adding(&sample::vm("web", 1000))).await.unwrap();

    let mode: String =
        Connection::open(&path).unwrap().pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
}
