//! Repair of damaged databases: the damaged file is kept, the new one is built from its rows, copies and backups.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use maqet_adapters_sqlite::{SqliteMaintenance, SqliteStore};
use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::event::{Event, kind};
use maqet_domain::port::{RepairReport, StorageLedger, Store, StoreError, StoreMaintenance, VmCopy, VmRepository};
use maqet_domain::vm::{Phase, Revision, VmEntry};
use maqet_testkit::store::sample;
use rusqlite::Connection;
use tempfile::TempDir;

/// Enough for several pages in each table.
const VMS: u32 = 90;

/// A closed database of many VMs, and their copies.
struct Fixture {
    folder: TempDir,
    path: PathBuf,
    copies: Vec<VmCopy>,
}

impl Fixture {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("maqet.db");
        let store = SqliteStore::open(&path).unwrap();
        let mut copies = Vec::new();
        for number in 0..VMS {
            let vm = sample::vm(&format!("vm-{number:03}"), number);
            let record = sample::storage(&format!("/d/{number}.qcow2"), Some(vm.entry.id));
            let mut adding = sample::adding(&vm).and(Change::StorageAdded(record.clone()));
            adding.history = Some(sample::history("add", Some(vm.entry.id)));
            adding.events.push(event(kind::VM_DEFINED, &vm.entry));
            store.commit(adding).await.unwrap();
            copies.push(VmCopy::new(vm, vec![record]));
        }
        let started = Change::RunChanged {
            id: sample::id(7),
            expected: Revision::FIRST,
            run: Some(sample::run(3, Phase::Running)),
        };
        store.commit(ChangeSet::default().and(started)).await.unwrap();
        Self { folder, path, copies }
    }

    fn maintenance(&self) -> SqliteMaintenance {
        SqliteMaintenance::new(&self.path)
    }

    fn backups(&self) -> PathBuf {
        self.folder.path().join("backups")
    }

    /// Repairs it with copies of all VMs.
    async fn repair(&self) -> RepairReport {
        self.maintenance().repair(self.copies.clone()).await.unwrap()
    }

    /// Checks the whole database and returns the names of its VMs.
    async fn names(&self) -> Vec<String> {
        self.maintenance().check().await.unwrap().unwrap();
        let store = SqliteStore::open(&self.path).unwrap();
        let names = store.list().await.unwrap().into_iter().map(|entry| entry.name.to_string());
        names.collect()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) {
        fs::File::options().write(true).open(&self.path).unwrap().write_all_at(bytes, offset).unwrap();
    }

    fn pages(&self) -> u64 {
        fs::metadata(&self.path).unwrap().len() / 4096
    }

    fn sql(&self, sql: &str) {
        Connection::open(&self.path).unwrap().execute_batch(sql).unwrap();
    }
}

fn event(kind: &str, entry: &VmEntry) -> Event {
    Event {
        at: sample::moment(9),
        kind: kind.to_owned(),
        vm: Some(entry.id),
        vm_name: Some(entry.name.clone()),
        data: serde_json::json!({}),
    }
}

fn all_names() -> Vec<String> {
    (0..VMS).map(|number| format!("vm-{number:03}")).collect()
}

fn by_origin(report: &RepairReport) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, _, origin) in &report.vms {
        *counts.entry(format!("{origin:?}")).or_default() += 1;
    }
    counts
}

/// Checks that the folder holds nothing but the database, its backups and the files of SQLite.
#[track_caller]
fn check_no_stale_files(folder: &Path) {
    let names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| name == "backups" || name.starts_with("maqet.db")), "{names:?}");
}

#[tokio::test]
async fn test_repair_broken_header_loses_nothing_and_keeps_old_file() {
    let fixture = Fixture::new().await;
    fixture.write_at(0, &[b'X'; 100]);
    let damaged = fs::read(&fixture.path).unwrap();

    let report = fixture.repair().await;

    assert_eq!(by_origin(&report), BTreeMap::from([("Database".to_owned(), 90)]));
    assert_eq!(report.lost, Vec::<String>::new());
    assert_eq!(report.damaged_copies.len(), 1);
    assert_eq!(fs::read(&report.damaged_copies[0]).unwrap(), damaged);
    assert_eq!(fs::metadata(&report.damaged_copies[0]).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fixture.names().await, all_names());
    let vm = SqliteStore::open(&fixture.path).unwrap().by_id(&sample::id(7)).await.unwrap().unwrap();
    assert_eq!(vm.entry.run, Some(sample::run(3, Phase::Running)));
    assert_eq!(fs::metadata(&fixture.path).unwrap().permissions().mode() & 0o777, 0o600);
    check_no_stale_files(fixture.folder.path());
}

#[tokio::test]
async fn test_repair_any_broken_page_loses_no_vm() {
    let pristine = Fixture::new().await;
    let content = fs::read(&pristine.path).unwrap();
    assert!(pristine.pages() > 20, "{} pages", pristine.pages());

    for page in 0..pristine.pages() {
        fs::write(&pristine.path, &content).unwrap();
        pristine.write_at(page * 4096, &[0xff; 4096]);

        if pristine.maintenance().check().await.is_ok() {
            continue;
        }
        pristine.repair().await;

        assert_eq!(pristine.names().await, all_names(), "page {page}");
        let store = SqliteStore::open(&pristine.path).unwrap();
        for kept in &pristine.copies {
            let vm = store.by_id(&kept.vm.entry.id).await.unwrap().unwrap();
            assert_eq!((&vm.definition, &vm.origins), (&kept.vm.definition, &kept.vm.origins), "page {page}");
            assert_eq!(store.storage_of_vm(&kept.vm.entry.id).await.unwrap(), kept.storage, "page {page}");
        }
    }
    check_no_stale_files(pristine.folder.path());
}

#[tokio::test]
async fn test_repair_without_copies_reads_intact_pages() {
    let fixture = Fixture::new().await;
    let content = fs::read(&fixture.path).unwrap();

    let mut fewest = VMS as usize;
    for page in 1..fixture.pages() {
        fs::write(&fixture.path, &content).unwrap();
        fixture.write_at(page * 4096, &[0xff; 4096]);
        if fixture.maintenance().check().await.is_err() {
            let report = fixture.maintenance().repair(Vec::new()).await.unwrap();
            fewest = fewest.min(report.vms.len());
        }
    }

    // Only a damaged root page loses all rows of a table.
    assert_eq!(fewest, 0);
    let root: i64 = {
        fs::write(&fixture.path, &content).unwrap();
        let sql = "SELECT pageno FROM dbstat WHERE name = 'definition' AND pagetype = 'leaf' LIMIT 1 OFFSET 1";
        Connection::open(&fixture.path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    fixture.write_at((root.cast_unsigned() - 1) * 4096, &[0xff; 4096]);
    let report = fixture.maintenance().repair(Vec::new()).await.unwrap();
    assert!(report.vms.len() > VMS as usize / 2, "{} VMs", report.vms.len());
    assert!(!report.lost.is_empty());
}

#[tokio::test]
async fn test_repair_truncated_file_loses_no_vm() {
    let fixture = Fixture::new().await;
    let content = fs::read(&fixture.path).unwrap();

    for length in [0, 1, 99, 100, 4095, 4096, 9000, content.len() / 2, content.len() - 4096] {
        fs::write(&fixture.path, &content[..length]).unwrap();

        let report = fixture.repair().await;

        assert_eq!(fs::read(&report.damaged_copies[0]).unwrap(), content[..length]);
        assert_eq!(fixture.names().await, all_names(), "{length} bytes");
    }
}

#[tokio::test]
async fn test_repair_missing_database_uses_the_copies() {
    let fixture = Fixture::new().await;
    fs::remove_file(&fixture.path).unwrap();
    assert_eq!(fixture.maintenance().check().await.unwrap(), None);

    let report = fixture.repair().await;

    assert_eq!(report.damaged_copies, Vec::<PathBuf>::new());
    assert_eq!(by_origin(&report), BTreeMap::from([("Copy".to_owned(), 90)]));
    assert_eq!(fixture.names().await, all_names());
}

#[tokio::test]
async fn test_repair_without_copies_uses_the_backup() {
    let fixture = Fixture::new().await;
    let backup = fixture.maintenance().backup().await.unwrap();
    assert_eq!(fixture.maintenance().newest_backup().await, Some(backup));
    fs::write(&fixture.path, "").unwrap();

    let report = fixture.maintenance().repair(Vec::new()).await.unwrap();

    assert_eq!(by_origin(&report), BTreeMap::from([("Backup".to_owned(), 90)]));
    assert!(report.log_entries >= 180, "{}", report.log_entries);
    assert_eq!(fixture.names().await, all_names());
}

#[tokio::test]
async fn test_repair_removed_vm_stays_removed() {
    let fixture = Fixture::new().await;
    let gone = sample::vm("vm-005", 5).entry;
    let mut removing = ChangeSet::default().and(Change::VmRemoved { id: gone.id, expected: Revision::FIRST });
    removing.events.push(event(kind::VM_REMOVED, &gone));
    SqliteStore::open(&fixture.path).unwrap().commit(removing).await.unwrap();
    let content = fs::read(&fixture.path).unwrap();
    let remaining: Vec<String> = all_names().into_iter().filter(|name| name != "vm-005").collect();

    fixture.write_at(0, &[0; 100]);
    fixture.repair().await;
    assert_eq!(fixture.names().await, remaining, "with the table of VMs");

    fs::write(&fixture.path, &content).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'vm'";
    let root: i64 = Connection::open(&fixture.path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
    fixture.write_at((root.cast_unsigned() - 1) * 4096, &[0xff; 4096]);
    let report = fixture.repair().await;
    assert_eq!(fixture.names().await, remaining, "from the events: {:?}", by_origin(&report));
}

#[tokio::test]
async fn test_repair_invalid_rows_are_reported_and_dropped() {
    let fixture = Fixture::new().await;
    fixture.sql("UPDATE vm SET name = '../x' WHERE name = 'vm-007'; UPDATE definition SET content = '{' WHERE vm LIKE '00000008%'");

    let report = fixture.maintenance().repair(Vec::new()).await.unwrap();

    assert_eq!(report.vms.len(), 88);
    let lost = report.lost.join("\n");
    assert!(lost.contains("`../x`") && lost.contains("`vm-008`"), "{lost}");
}

#[tokio::test]
async fn test_repair_partially_migrated_schema_is_upgraded() {
    let fixture = Fixture::new().await;
    fixture.sql("ALTER TABLE vm DROP COLUMN forwards; DROP TABLE event; PRAGMA user_version = 0;");

    let report = fixture.repair().await;

    assert_eq!(by_origin(&report), BTreeMap::from([("Database".to_owned(), 90)]));
    assert_eq!(fixture.names().await, all_names());
}

#[tokio::test]
async fn test_repair_newer_or_foreign_database_is_untouched() {
    let fixture = Fixture::new().await;
    fixture.sql("PRAGMA user_version = 999;");
    let newer = fs::read(&fixture.path).unwrap();
    let refused = fixture.maintenance().repair(fixture.copies.clone()).await;
    assert!(matches!(refused, Err(StoreError::UnsupportedSchema { found: 999, .. })), "{refused:?}");
    assert_eq!(fs::read(&fixture.path).unwrap(), newer);

    fs::remove_file(&fixture.path).unwrap();
    fixture.sql("CREATE TABLE note (text TEXT); INSERT INTO note VALUES ('mine');");
    let foreign = fs::read(&fixture.path).unwrap();
    let refused = fixture.maintenance().repair(fixture.copies.clone()).await;
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "{refused:?}");
    assert_eq!(fs::read(&fixture.path).unwrap(), foreign);
    assert!(!fixture.backups().exists());
}

#[tokio::test]
async fn test_repair_valid_database_is_untouched() {
    let fixture = Fixture::new().await;
    let before = fs::read(&fixture.path).unwrap();

    let report = fixture.repair().await;

    assert_eq!(report, RepairReport::default());
    assert_eq!(fs::read(&fixture.path).unwrap(), before);
}

#[tokio::test]
async fn test_backup_rotation_removes_oldest_but_not_damaged() {
    let fixture = Fixture::new().await;
    fs::create_dir(fixture.backups()).unwrap();
    let damaged = fixture.backups().join("maqet-20000101T000000000Z.damaged");
    fs::write(&damaged, "").unwrap();

    for _ in 0..12 {
        fixture.maintenance().backup().await.unwrap();
    }

    let backups = fs::read_dir(fixture.backups()).unwrap().count();
    assert_eq!(backups, 11);
    assert!(damaged.exists());
    let newest = fixture.maintenance().newest_backup().await.unwrap();
    assert_eq!(fs::metadata(&newest).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn test_check_valid_database_reports_its_state() {
    let fixture = Fixture::new().await;

    let health = fixture.maintenance().check().await.unwrap().unwrap();

    assert_eq!((health.vms, health.journal.as_str(), health.unwritable), (90, "wal", None));
    assert_eq!(health.schema, health.newest_schema);
}

#[tokio::test]
async fn test_check_index_missing_a_row_is_corrupt() {
    let fixture = Fixture::new().await;
    let root: i64 = {
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'storage_of_vm'";
        Connection::open(&fixture.path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    // An index without entries: type 10, no cells, the content begins at the end of the page.
    let mut empty = vec![0_u8; 4096];
    empty[..8].copy_from_slice(&[10, 0, 0, 0, 0, 0x10, 0, 0]);
    fixture.write_at((root.cast_unsigned() - 1) * 4096, &empty);
    assert_eq!(SqliteStore::open(&fixture.path).unwrap().list().await.unwrap().len(), 90, "commands do not notice");

    let found = fixture.maintenance().check().await;

    assert!(matches!(found, Err(StoreError::Corrupt { .. })), "{found:?}");
    let report = fixture.repair().await;
    assert_eq!(by_origin(&report), BTreeMap::from([("Database".to_owned(), 90)]));
}
