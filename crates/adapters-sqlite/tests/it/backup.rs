//! Backups: complete under their name or absent, whatever the name is and whenever the process is killed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use maqet_adapters_sqlite::{SqliteMaintenance, SqliteStore};
use maqet_domain::port::{StoreError, StoreMaintenance};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::child::{self, add, names, wait};

/// The test in which a child process begins.
const ENTRY: &str = "backup::test_child_without_order_does_nothing";

#[test]
fn test_child_without_order_does_nothing() {
    let Some((_, database)) = child::order() else { return };
    loop {
        wait(SqliteMaintenance::new(&database).backup()).unwrap();
    }
}

fn database() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("maqet.db");
    add(&SqliteStore::open(&path).unwrap(), "web", 1).unwrap();
    (folder, path)
}

/// Returns the files of a folder by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Returns the number of VMs in a backup that is intact.
fn vms(backup: &Path) -> i64 {
    let connection = Connection::open_with_flags(backup, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok", "{}", backup.display());
    connection.query_row("SELECT count(*) FROM vm", [], |row| row.get(0)).unwrap()
}

#[test]
fn test_backup_to_name_that_is_not_utf8_is_complete() {
    let (folder, path) = database();
    let to = folder.path().join(OsStr::from_bytes(b"to-\xff"));
    fs::create_dir(&to).unwrap();
    let file = to.join(OsStr::from_bytes(b"it's-\xfe.db"));

    wait(SqliteMaintenance::new(&path).backup_to(file.clone())).unwrap();

    assert_eq!(files(&to), std::slice::from_ref(&file));
    assert_eq!(vms(&file), 1);
}

#[test]
fn test_backup_to_existing_file_or_missing_folder_leaves_nothing() {
    let (folder, path) = database();
    let to = folder.path().join("to");
    fs::create_dir(&to).unwrap();
    fs::write(to.join("theirs"), "theirs").unwrap();

    let exists = wait(SqliteMaintenance::new(&path).backup_to(to.join("theirs")));
    let missing = wait(SqliteMaintenance::new(&path).backup_to(to.join("missing/backup.db")));

    assert!(matches!(exists, Err(StoreError::BackupExists { .. })), "{exists:?}");
    assert!(missing.is_err(), "{missing:?}");
    assert_eq!(files(&to), [to.join("theirs")]);
    assert_eq!(fs::read(to.join("theirs")).unwrap(), b"theirs");
}

#[test]
fn test_backup_of_killed_process_is_absent_and_its_rest_is_removed() {
    let (folder, path) = database();
    let ballast = "CREATE TABLE ballast (content BLOB); \
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) \
        INSERT INTO ballast SELECT randomblob(4000) FROM n;";
    Connection::open(&path).unwrap().execute_batch(ballast).unwrap();
    let backups = folder.path().join("backups");
    let is_partial = |file: &PathBuf| {
        let is_temporary = file.file_name().unwrap().as_bytes().starts_with(b".");
        is_temporary && fs::metadata(file).is_ok_and(|found| found.len() > 0)
    };
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.stdout(Stdio::null());
    let mut process = child::command(program, ENTRY, "back up", &path).spawn().unwrap();

    let deadline = Instant::now() + Duration::from_secs(20);
    while !(backups.exists() && files(&backups).iter().any(is_partial)) {
        assert!(Instant::now() < deadline, "no backup was begun");
    }
    process.kill().unwrap();
    process.wait().unwrap();
    let left = files(&backups);
    for backup in left.iter().filter(|file| file.extension() == Some(OsStr::new("db"))) {
        assert_eq!(vms(backup), 1);
    }
    let new = wait(SqliteMaintenance::new(&path).backup()).unwrap();

    assert_eq!(vms(&new), 1);
    let rest: Vec<PathBuf> = files(&backups).into_iter().filter(is_partial).collect();
    assert_eq!(rest, Vec::<PathBuf>::new());
}

#[test]
fn test_repair_takes_the_newest_backup_that_can_be_read() {
    let (folder, path) = database();
    let good = wait(SqliteMaintenance::new(&path).backup()).unwrap();
    let content = fs::read(&good).unwrap();
    let later = |name: &str| folder.path().join("backups").join(format!("maqet-9{name}.db"));
    let mut damaged = content.clone();
    damaged[4096..].fill(0xff);
    fs::write(later("1"), &damaged).unwrap();
    fs::write(later("2"), &content[..4096]).unwrap();
    fs::write(later("3"), "damaged").unwrap();
    fs::write(later("4"), "").unwrap();
    fs::write(&path, "damaged").unwrap();

    assert_eq!(wait(SqliteMaintenance::new(&path).newest_backup()), Some(later("3")));
    let report = wait(SqliteMaintenance::new(&path).repair(Vec::new())).unwrap();

    assert_eq!(report.vms.len(), 1, "{report:?}");
    assert_eq!(names(&SqliteStore::open(&path).unwrap()).unwrap(), ["web"]);
}
