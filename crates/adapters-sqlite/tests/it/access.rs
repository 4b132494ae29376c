//! Permissions and full disks: private files whatever the umask, and reading where nothing can be written.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_adapters_sqlite::{SqliteMaintenance, SqliteStore};
use maqet_domain::change::ChangeSet;
use maqet_domain::history::HistoryQuery;
use maqet_domain::port::{EventLog, HistoryLog, Store, StoreError, StoreMaintenance, VmCopy};
use maqet_testkit::store::sample;
use tempfile::TempDir;

use crate::child::{self, add, names, wait};
use crate::migration::SCHEMA_1;

/// The test in which a child process begins.
const ENTRY: &str = "access::test_child_without_order_does_nothing";

/// The user of the children if the tests run as root, which may read and write everywhere.
const UNPRIVILEGED: u32 = 65534;

#[test]
fn test_child_without_order_does_nothing() {
    let Some((order, database)) = child::order() else { return };
    match order.as_str() {
        "open" => check_private(&database),
        "read" => check_reads_only(&database, &["web"]),
        "read log" => check_reads_only(&database, &["other", "web"]),
        "read old schema" => check_old_schema_reads(&database),
        "refuse" => check_refused(&database),
        "fill" => check_full_disk(&database),
        "check" => check_read_only_state(&database),
        "repair" => check_repair_on_full_disk(&database),
        _ => panic!("unknown order `{order}`"),
    }
}

fn check_private(database: &Path) {
    let store = SqliteStore::open(database).unwrap();
    add(&store, "web", 1).unwrap();

    for (file, mode) in [("maqet.db", 0o600), ("maqet.db-wal", 0o600), ("maqet.db-shm", 0o600), (".", 0o700)] {
        let found = fs::metadata(database.parent().unwrap().join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "`{file}` has mode {found:o}");
    }
}

fn check_reads_only(database: &Path, expected: &[&str]) {
    let store = SqliteStore::open(database).unwrap();
    assert_eq!(names(&store).unwrap(), expected);

    let refused = add(&store, "third", 3);
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert_eq!(names(&store).unwrap(), expected);
}

/// Reads a database whose schema cannot be migrated.
fn check_old_schema_reads(database: &Path) {
    let store = SqliteStore::open(database).unwrap();
    assert_eq!(names(&store).unwrap(), ["db", "web"]);
    assert_eq!(wait(store.history(&HistoryQuery::newest(u32::MAX))).unwrap().len(), 9);
    assert_eq!(wait(store.events_after(0, u32::MAX)).unwrap().len(), 29);

    let refused = add(&store, "third", 3);
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}

fn check_refused(database: &Path) {
    let refused = SqliteStore::open(database).and_then(|store| names(&store));
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}

/// Reads and fails to write on a full disk: with an open store, a new one, and one with a log to apply.
fn check_full_disk(database: &Path) {
    let waiting = SqliteStore::open(database).unwrap();
    add(&waiting, "web", 1).unwrap();
    let folder = database.parent().unwrap();
    // The log of the first commit is in the database already, and its space is used again.
    for _ in 0..4 {
        wait(waiting.commit(ChangeSet { events: vec![sample::event("one", None)], ..ChangeSet::default() })).unwrap();
    }
    let log = fs::read(database.with_extension("db-wal")).unwrap();

    fill(&folder.join("ballast"));
    check_full(&waiting);
    drop(waiting);
    fill(&folder.join("ballast-2"));
    let new = SqliteStore::open(database).unwrap();
    check_full(&new);
    drop(new);

    fs::remove_file(folder.join("ballast")).unwrap();
    fs::write(database.with_extension("db-wal"), log).unwrap();
    fill(&folder.join("ballast"));
    let with_log = SqliteStore::open(database).unwrap();
    check_full(&with_log);

    fs::remove_file(folder.join("ballast")).unwrap();
    add(&with_log, "other", 2).unwrap();
    assert_eq!(names(&with_log).unwrap(), ["other", "web"]);
}

/// Checks a database that can be read but not written.
fn check_read_only_state(database: &Path) {
    let health = wait(SqliteMaintenance::new(database).check()).unwrap().unwrap();

    assert_eq!(health.vms, 1);
    assert_eq!(health.unwritable.as_deref(), Some("the file is read-only"));
}

/// Fails to repair on a full disk without losing anything, and repairs once there is space.
fn check_repair_on_full_disk(database: &Path) {
    let store = SqliteStore::open(database).unwrap();
    let vm = add(&store, "web", 1).unwrap();
    drop(store);
    let folder = database.parent().unwrap();
    fs::write(database, "damaged").unwrap();
    fill(&folder.join("ballast"));
    let maintenance = SqliteMaintenance::new(database);
    let known = vec![VmCopy::new(vm, Vec::new())];

    let refused = wait(maintenance.repair(known.clone()));

    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    assert_eq!(fs::read(database).unwrap(), b"damaged");
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert!(names(folder).iter().all(|name| !name.starts_with('.')), "{:?}", names(folder));
    let kept: u64 = names(&folder.join("backups")).len() as u64;
    assert!(kept <= 1, "incomplete copies remain: {:?}", names(&folder.join("backups")));

    fs::remove_file(folder.join("ballast")).unwrap();
    let report = wait(maintenance.repair(known)).unwrap();
    assert_eq!(report.vms.len(), 1);
    assert_eq!(names_of(database), ["web"]);
}

fn names_of(database: &Path) -> Vec<String> {
    names(&SqliteStore::open(database).unwrap()).unwrap()
}

fn check_full(store: &SqliteStore) {
    assert_eq!(names(store).unwrap(), ["web"]);
    let refused = add(store, "other", 2);
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    assert_eq!(names(store).unwrap(), ["web"]);
}

fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while file.write(&[0; 1024]).is_ok() {}
}

/// A folder that other users may enter, with a copy of this binary that they may run.
struct Fixture {
    folder: TempDir,
    program: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let program = folder.path().join("program");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        Self { folder, program }
    }

    /// Creates a database with one VM, owned by the user of the child.
    fn database(&self) -> PathBuf {
        let path = self.folder.path().join("data/maqet.db");
        add(&SqliteStore::open(&path).unwrap(), "web", 1).unwrap();
        give_away(&[&path, path.parent().unwrap()]);
        path
    }

    /// Copies the database of schema 1, owned by the user of the child.
    fn old_database(&self) -> PathBuf {
        let path = self.database();
        fs::copy(SCHEMA_1, &path).unwrap();
        path
    }

    /// Creates a database with two VMs, the second one only in the log, as after a writer was killed.
    fn database_with_log(&self) -> PathBuf {
        let path = self.database();
        let log = path.with_extension("db-wal");
        let store = SqliteStore::open(&path).unwrap();
        add(&store, "other", 2).unwrap();
        let left = [fs::read(&path).unwrap(), fs::read(&log).unwrap()];
        drop(store);

        for (file, content) in [&path, &log].into_iter().zip(left) {
            fs::write(file, content).unwrap();
            fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
        }
        give_away(&[&path, &log]);
        path
    }

    /// Carries out `order` as an ordinary user.
    #[track_caller]
    fn check(&self, order: &str, database: &Path) {
        let mut program = Command::new(&self.program);
        if is_root() {
            program.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
        }
        program.current_dir(self.folder.path());
        check_success(child::command(program, ENTRY, order, database));
    }
}

/// Makes the user of the child the owner of files.
fn give_away(files: &[&Path]) {
    for file in files.iter().filter(|_| is_root()) {
        chown(file, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).unwrap();
    }
}

fn is_root() -> bool {
    // The owner of a process owns its folder in /proc.
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0
}

/// Runs `command` and fails the test with its output if it failed.
#[track_caller]
fn check_success(mut command: Command) {
    let output = command.output().expect("the child can be started");
    assert!(
        output.status.success(),
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[track_caller]
fn check_umask(umask: &str, database: &Path) {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("umask {umask} && exec \"$@\""), "sh"]).arg(std::env::current_exe().unwrap());
    check_success(child::command(shell, ENTRY, "open", database));
}

#[test]
fn test_open_with_umask_000_creates_private_files() {
    let folder = TempDir::new().unwrap();

    check_umask("000", &folder.path().join("new/maqet.db"));
}

#[test]
fn test_open_with_umask_777_creates_usable_files() {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();

    check_umask("777", &folder.path().join("maqet.db"));
}

#[test]
fn test_open_read_only_file_in_read_only_folder_can_be_read() {
    let fixture = Fixture::new();
    let database = fixture.database();
    fs::set_permissions(&database, Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(database.parent().unwrap(), Permissions::from_mode(0o500)).unwrap();

    fixture.check("read", &database);

    fs::set_permissions(database.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn test_open_writable_file_in_read_only_folder_can_be_read() {
    let fixture = Fixture::new();
    let database = fixture.database();
    fs::set_permissions(database.parent().unwrap(), Permissions::from_mode(0o500)).unwrap();

    fixture.check("read", &database);

    fs::set_permissions(database.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn test_open_read_only_file_in_writable_folder_can_be_read() {
    let fixture = Fixture::new();
    let database = fixture.database();
    fs::set_permissions(&database, Permissions::from_mode(0o400)).unwrap();

    fixture.check("read", &database);
}

#[test]
fn test_open_old_schema_in_read_only_folder_can_be_read() {
    let fixture = Fixture::new();
    let database = fixture.old_database();
    fs::set_permissions(database.parent().unwrap(), Permissions::from_mode(0o500)).unwrap();

    fixture.check("read old schema", &database);

    fs::set_permissions(database.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn test_open_old_schema_in_read_only_file_can_be_read() {
    let fixture = Fixture::new();
    let database = fixture.old_database();
    fs::set_permissions(&database, Permissions::from_mode(0o400)).unwrap();

    fixture.check("read old schema", &database);
}

#[test]
fn test_open_unreadable_file_is_unavailable() {
    let fixture = Fixture::new();
    let database = fixture.database();
    fs::set_permissions(&database, Permissions::from_mode(0o000)).unwrap();

    fixture.check("refuse", &database);
}

#[test]
fn test_open_writable_file_with_log_reads_the_log() {
    let fixture = Fixture::new();
    let database = fixture.database_with_log();
    fs::set_permissions(database.parent().unwrap(), Permissions::from_mode(0o500)).unwrap();

    fixture.check("read log", &database);

    fs::set_permissions(database.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn test_open_read_only_file_with_log_is_unavailable() {
    let fixture = Fixture::new();
    let database = fixture.database_with_log();
    fs::set_permissions(&database, Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(database.parent().unwrap(), Permissions::from_mode(0o500)).unwrap();

    fixture.check("refuse", &database);

    fs::set_permissions(database.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn test_open_missing_file_in_read_only_folder_is_unavailable() {
    let fixture = Fixture::new();
    let database = fixture.database();
    fs::remove_file(&database).unwrap();
    fs::set_permissions(database.parent().unwrap(), Permissions::from_mode(0o500)).unwrap();

    fixture.check("refuse", &database);

    fs::set_permissions(database.parent().unwrap(), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn test_check_read_only_database_is_reported_as_such() {
    let fixture = Fixture::new();
    let database = fixture.database();
    fs::set_permissions(&database, Permissions::from_mode(0o400)).unwrap();

    fixture.check("check", &database);
}

#[test]
fn test_repair_on_full_disk_changes_nothing() {
    on_a_small_disk("repair");
}

#[test]
fn test_commit_on_full_disk_fails_and_reading_works() {
    on_a_small_disk("fill");
}

/// Carries out `order` with a database on a disk of 256 KiB.
#[track_caller]
fn on_a_small_disk(order: &str) {
    let folder = TempDir::new().unwrap();
    // The mount is visible to this child only and ends with it.
    let script = "mount -t tmpfs -o size=256k,mode=700 none \"$0\" && exec \"$@\"";
    let mut unshare = Command::new("unshare");
    unshare.args(if is_root() { ["-m"].as_slice() } else { ["-r", "-m"].as_slice() });
    unshare.args(["sh", "-c", script]).arg(folder.path()).arg(std::env::current_exe().unwrap());

    check_success(child::command(unshare, ENTRY, order, &folder.path().join("maqet.db")));
}
