//! `doctor` and `cleanup`: problems and stale files are found, reported, and repaired or removed.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_testkit::process::kill_naming;
use maqet_testkit::qemu::emulator;
use maqet_testkit::{TestHome, guest};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::damaged_disks::command_without_override;

fn database(home: &TestHome) -> PathBuf {
    home.data().join("maqet.db")
}

/// Writes to the database behind maqet's back.
fn sql(home: &TestHome, text: &str) {
    let connection = Connection::open(database(home)).unwrap();
    connection.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    connection.execute_batch(text).unwrap();
}

/// Defines a VM and starts it; returns the pid of its QEMU.
fn started(home: &TestHome, name: &str) -> i64 {
    home.add(&guest::paused_yaml(name));
    home.json(&["start", name])["pid"].as_i64().unwrap()
}

/// Returns the findings of `doctor` with these arguments, after a check of its exit code.
fn findings(home: &TestHome, arguments: &[&str], code: i32) -> Vec<Value> {
    let finished = home.maqet(["doctor", "--format", "json"]).args(arguments).run().code(code);
    let diagnosis = finished.json_value();
    assert_eq!(diagnosis["healthy"], json!(code == 0), "{diagnosis}");
    diagnosis["findings"].as_array().unwrap().clone()
}

#[track_caller]
fn find<'a>(findings: &'a [Value], area: &str, severity: &str) -> &'a Value {
    let found = findings.iter().find(|finding| finding["area"] == area && finding["severity"] == severity);
    found.unwrap_or_else(|| panic!("no {severity} about {area} in {findings:#?}"))
}

fn items(home: &TestHome, arguments: &[&str], code: i32) -> Vec<Value> {
    let finished = home.maqet(["cleanup", "--format", "json"]).args(arguments).run().code(code);
    finished.json_value()["items"].as_array().unwrap().clone()
}

fn outcomes(items: &[Value]) -> Vec<(String, String)> {
    let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    items.iter().map(|item| (text(item, "kind"), text(item, "outcome"))).collect()
}

/// Returns exit code and findings of `doctor` run by a user who may not override permissions.
pub(crate) fn restricted_findings(home: &TestHome, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let arguments = [&["doctor"], arguments].concat();
    let output = command_without_override(home, &arguments).output().unwrap();
    let diagnosis: Value = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code(), diagnosis["findings"].as_array().unwrap().clone())
}

/// A directory that cannot be entered is not one that does not exist yet.
#[test]
fn test_doctor_directory_that_cannot_be_entered_is_a_problem() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (data, above) = (home.data(), home.data().parent().unwrap().to_owned());
    let find = |findings: &[Value], text: &str| {
        let found = findings.iter().find(|finding| finding["message"].as_str().unwrap().contains(text));
        found.unwrap_or_else(|| panic!("no `{text}` in {findings:#?}")).clone()
    };

    mode(&above, 0o000);
    let (hidden_code, hidden) = restricted_findings(&home, &[]);
    mode(&above, 0o700);
    mode(&data, 0o000);
    let (closed_code, closed) = restricted_findings(&home, &[]);
    mode(&data, 0o700);
    fs::create_dir_all(data.join("storage/web")).unwrap();
    mode(&data.join("storage/web"), 0o000);
    let (inner_code, inner) = restricted_findings(&home, &[]);
    let (fixed_code, _) = restricted_findings(&home, &["--fix"]);

    let problem = find(&hidden, &format!("cannot enter `{}`: permission denied", above.display()));
    assert_eq!((hidden_code, &problem["severity"]), (Some(1), &json!("problem")), "{problem}");
    assert!(problem["hint"].as_str().unwrap().contains("correct the owner and the mode"), "{problem}");
    let database = hidden.iter().find(|finding| finding["area"] == "database").unwrap();
    assert_eq!(database["severity"], "problem", "{database}");
    assert_eq!((closed_code, &find(&closed, "has mode 0000")["severity"]), (Some(1), &json!("problem")));
    let message = format!("`{}` has mode 0000: maqet cannot use it", data.join("storage/web").display());
    assert_eq!((inner_code, &find(&inner, &message)["fixable"]), (Some(1), &json!(true)));
    assert_eq!(fixed_code, Some(0));
    assert_eq!(fs::metadata(data.join("storage/web")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn test_doctor_directory_that_cannot_be_created_is_a_problem() {
    let home = TestHome::new();
    let closed = home.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let data = closed.join("data");

    let (code, findings) = restricted_findings(&home, &["--data-dir", data.to_str().unwrap()]);

    let message = format!(
        "`{}` does not exist, and cannot be created in `{}`: permission denied",
        data.display(),
        closed.display()
    );
    let found = findings.iter().find(|finding| finding["message"] == message.as_str());
    assert_eq!((code, found.map(|found| &found["severity"])), (Some(1), Some(&json!("problem"))), "{findings:#?}");
}

type Damage = fn(&Path);

/// Ways to lose a database that no process has open.
fn damages() -> [(&'static str, Damage); 5] {
    [
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("truncated", |path| fs::File::options().write(true).open(path).unwrap().set_len(5000).unwrap()),
        ("overwritten", |path| fs::write(path, "name: web\n".repeat(900)).unwrap()),
        ("without its header", |path| {
            fs::File::options().write(true).open(path).unwrap().write_all_at(&[0; 100], 0).unwrap();
        }),
        ("deleted", |path| fs::remove_file(path).unwrap()),
    ]
}

#[test]
fn test_doctor_new_home_is_healthy_and_creates_nothing() {
    let home = TestHome::new();

    let found = findings(&home, &[], 0);

    let subjects: Vec<&str> = found.iter().map(|finding| finding["subject"].as_str().unwrap()).collect();
    for expected in
        ["KVM", "qemu-system-x86_64", "qemu-img", "open files", "sockets", "data directory", "state directory"]
    {
        assert!(subjects.contains(&expected), "{expected} is not among {subjects:?}");
    }
    assert!(!database(&home).exists());
}

#[test]
fn test_doctor_damaged_database_is_repaired_with_running_vm() {
    let home = TestHome::new();
    let pid = started(&home, "web");
    home.add(&guest::paused_yaml("never-started"));

    for (how, damage) in damages() {
        damage(&database(&home));
        let damaged = fs::read(database(&home)).ok();
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(home.data().join(format!("maqet.db{suffix}")));
        }

        for command in [vec!["ls"], vec!["stop", "web"], vec!["add", "--empty", "--name", "db"], vec!["cleanup"]] {
            let error = home.json_error(&command, 1);
            let code = if how == "deleted" { "store.not-found" } else { "store.corrupt" };
            assert_eq!(error["code"], code, "{how}: {error}");
            assert!(error["hints"][0].as_str().unwrap().contains("maqet doctor --fix"), "{how}: {error}");
        }
        assert_eq!(fs::read(database(&home)).ok(), damaged, "{how}");
        assert_eq!(find(&findings(&home, &[], 1), "database", "problem")["fixable"], true, "{how}");

        let fixed = findings(&home, &["--fix"], 0);

        let fixed = find(&fixed, "database", "problem")["fixed"].as_str().unwrap().to_owned();
        assert!(fixed.contains("2 VMs"), "{how}: {fixed}");
        if let Some(damaged) = damaged {
            let kept = PathBuf::from(fixed.rsplit('`').nth(1).unwrap());
            assert_eq!(fs::read(&kept).unwrap(), damaged, "{how}: {fixed}");
        }
        let status = home.json(&["status", "web"]);
        assert_eq!((&status["status"], status["pid"].as_i64()), (&json!("paused"), Some(pid)), "{how}");
        assert_eq!(home.json(&["status", "never-started"])["status"], "defined", "{how}");
    }
    home.json(&["stop", "web", "--force"]);
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
}

#[test]
fn test_doctor_killed_during_repair_loses_nothing() {
    let home = TestHome::new();
    for name in ["one", "two", "three"] {
        home.add(&guest::paused_yaml(name));
    }

    for millis in [5, 10, 20, 30, 40, 50, 60, 80] {
        fs::write(database(&home), "x".repeat(9000)).unwrap();
        let _killed = home.maqet(["doctor", "--fix"]).spawn().kill_after(Duration::from_millis(millis));

        let _ = home.maqet(["doctor", "--fix"]).run().code(0);
        assert_eq!(home.json(&["ls"]).as_array().unwrap().len(), 3, "killed after {millis} ms");
    }
}

#[test]
fn test_doctor_several_at_once_repair_database_once() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    fs::write(database(&home), "").unwrap();

    let doctors: Vec<_> = (0..4).map(|_| home.maqet(["doctor", "--fix"]).spawn()).collect();
    let codes: Vec<Option<i32>> = doctors.into_iter().map(|doctor| doctor.wait().code).collect();

    assert!(codes.contains(&Some(0)) && codes.iter().all(|code| matches!(code, Some(0 | 1))), "{codes:?}");
    assert_eq!(home.json(&["ls"])[0]["name"], "web");
    findings(&home, &[], 0);
}

#[test]
fn test_doctor_newer_database_is_reported_and_kept() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    sql(&home, "PRAGMA user_version = 999");
    let before = fs::read(database(&home)).unwrap();

    let problem = find(&findings(&home, &["--fix"], 1), "database", "problem").clone();

    assert_eq!((&problem["fixable"], &problem["fixed"]), (&json!(false), &Value::Null));
    assert!(problem["hint"].as_str().unwrap().contains("update maqet"), "{problem}");
    assert_eq!(fs::read(database(&home)).unwrap(), before);
}

#[test]
fn test_doctor_valid_database_is_backed_up_only_with_fix() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));

    findings(&home, &[], 0);
    assert!(!home.data().join("backups").exists());
    findings(&home, &["--fix"], 0);

    let backup = fs::read_dir(home.data().join("backups")).unwrap().next().unwrap().unwrap().path();
    let names: Vec<String> = {
        let connection = Connection::open(&backup).unwrap();
        let mut statement = connection.prepare("SELECT name FROM vm").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(names, ["web"]);
}

#[test]
fn test_doctor_vm_unable_to_start_is_reported_with_hint() {
    let home = TestHome::new();
    home.add("name: web\naccel: tcg\nstorage:\n  - {name: hdd, size: 1M}\n");
    home.add("name: odd\naccel: tcg\nbinary: /nonexistent/qemu\n");
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    fs::remove_file(home.data().join("storage/web/hdd.qcow2")).unwrap();
    home.add(&guest::paused_yaml("strange"));
    sql(
        &home,
        "UPDATE definition SET content = '{\"memroy\": \"1G\"}' WHERE vm = (SELECT id FROM vm WHERE name = 'strange')",
    );

    let found = findings(&home, &["--fix"], 1);

    for (vm, text) in [("web", "not found (created on "), ("odd", "not found"), ("strange", "memroy")] {
        let of_vm = |finding: &&Value| finding["subject"] == vm && finding["severity"] == "problem";
        let problem = found.iter().find(of_vm).unwrap_or_else(|| panic!("nothing about {vm} in {found:#?}"));
        assert!(problem["message"].as_str().unwrap().contains(text), "{problem}");
        assert!(problem["hint"].is_string() && problem["fixed"].is_null(), "{problem}");
    }
}

#[test]
fn test_doctor_shows_version_of_each_binary_in_use() {
    let home = TestHome::new();
    let wrapper = home.write("bin/my-qemu", format!("#!/bin/sh\nexec '{}' \"$@\"\n", emulator().display()));
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    home.add(&format!("{}binary: {}\n", guest::paused_yaml("own"), wrapper.display()));
    home.add(&guest::paused_yaml("default"));
    started(&home, "running");

    let found = findings(&home, &[], 0);

    let message = |path: &Path| {
        let finding = found.iter().rfind(|finding| finding["subject"] == path.to_str().unwrap());
        finding.unwrap_or_else(|| panic!("{} is not in {found:#?}", path.display()))["message"].as_str().unwrap()
    };
    let version = home.json(&["qmp", "running", "query-version"])["qemu"].clone();
    let version = format!("version {}.{}.{}, used by ", version["major"], version["minor"], version["micro"]);
    assert_eq!(message(&wrapper), format!("{version}VM `own`"));
    assert_eq!(message(&emulator()), format!("{version}VMs `default`, `running`"));
    home.json(&["stop", "running", "--force"]);
}

#[test]
fn test_doctor_fix_insecure_folder_makes_it_private() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    fs::set_permissions(home.state(), fs::Permissions::from_mode(0o755)).unwrap();

    assert_eq!(find(&findings(&home, &[], 0), "host", "warning")["subject"], "state directory");
    findings(&home, &["--fix"], 0);

    assert_eq!(fs::metadata(home.state()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn test_doctor_fix_lost_vm_copy_is_restored() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let copy = home.files().into_iter().find(|path| path.ends_with("vm.json")).unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    fs::remove_file(&copy).unwrap();

    assert_eq!(find(&findings(&home, &[], 0), "vm", "note")["subject"], "web");
    findings(&home, &["--fix"], 0);

    assert!(copy.exists());
    home.json(&["rm", "web"]);
    assert!(!copy.exists());
}

#[test]
fn test_orphan_is_listed_and_can_be_adopted() {
    let home = TestHome::new();
    let pid = started(&home, "web");
    home.add(&guest::paused_yaml("other"));
    let id = home.json(&["status", "web"])["id"].clone();
    sql(&home, "DELETE FROM vm WHERE name = 'web'");

    let listed = home.json(&["ls", "--status", "orphaned"]);
    assert_eq!((&listed[0]["name"], listed[0]["pid"].as_i64(), &listed[0]["id"]), (&json!("web"), Some(pid), &id));
    assert_eq!(home.json(&["ls"]).as_array().unwrap().len(), 2);
    assert_eq!(home.json(&["status", "web"])["status"], "orphaned");
    assert_eq!(home.json_error(&["stop", "web"], 4)["code"], "vm.orphan-conflict");
    assert_eq!(find(&findings(&home, &["--fix"], 1), "stale-files", "problem")["subject"], "web");

    let found = outcomes(&items(&home, &[], 0));
    assert!(found.contains(&("orphan".to_owned(), "skipped".to_owned())), "{found:?}");
    assert_eq!(home.qemu_pids(), [i32::try_from(pid).unwrap()]);
    items(&home, &["--adopt-orphans", "--dry-run"], 0);
    assert_eq!(home.json(&["status", "web"])["status"], "orphaned");

    let adopted = outcomes(&items(&home, &["--adopt-orphans"], 0));

    assert_eq!(adopted, [("orphan".to_owned(), "adopted".to_owned())]);
    let status = home.json(&["status", "web"]);
    assert_eq!((&status["status"], status["pid"].as_i64(), &status["id"]), (&json!("paused"), Some(pid), &id));
    home.json(&["qmp", "web", "query-status"]);
    home.json(&["stop", "web", "--force"]);
    assert_eq!(home.json(&["start", "web"])["boot"], 2);
}

/// As after restoring a database from a backup: its pid belongs to another process now.
#[test]
fn test_orphan_with_other_pid_than_recorded_is_running() {
    let home = TestHome::new();
    let pid = started(&home, "web");
    let stranger = std::process::id();
    sql(&home, &format!("UPDATE vm SET pid = {stranger}, start_ticks = start_ticks - 1"));

    let status = home.json(&["status", "web"]);
    let again = home.json(&["start", "web"]);
    home.json(&["events", "web"]);
    let state = home.json(&["qmp", "web", "query-status"]);

    assert_eq!((&status["status"], &status["pid"]), (&json!("paused"), &json!(pid)));
    assert_eq!((&again["changed"], &again["pid"]), (&json!(false), &json!(pid)));
    assert_eq!(state["status"], "prelaunch");
    assert_eq!(home.json(&["stop", "web"])["method"], "quit");
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
}

#[test]
fn test_orphan_killed_on_request_leaves_nothing() {
    let home = TestHome::new();
    started(&home, "web");
    let kept = started(&home, "kept");
    sql(&home, "DELETE FROM vm WHERE name = 'web'");
    let copy = home.files().into_iter().find(|path| path.ends_with("vm.json") && holds(path, "\"web\"")).unwrap();
    fs::remove_file(&copy).unwrap();

    let refused = items(&home, &["--adopt-orphans"], 1);
    assert!(refused[0]["reason"].as_str().unwrap().contains("no saved definition"), "{refused:?}");
    let ended = outcomes(&items(&home, &["--end-orphans"], 0));

    assert_eq!(ended[0], ("orphan".to_owned(), "ended".to_owned()));
    assert!(ended.contains(&("records".to_owned(), "removed".to_owned())), "{ended:?}");
    assert_eq!(home.qemu_pids(), [i32::try_from(kept).unwrap()]);
    assert!(!copy.parent().unwrap().exists());
    findings(&home, &[], 0);
    home.json(&["rm", "kept", "--force"]);
    assert_eq!(home.stale_files(), Vec::<PathBuf>::new());
}

fn holds(path: &Path, text: &str) -> bool {
    fs::read_to_string(path).unwrap().contains(text)
}

#[test]
fn test_orphan_without_sockets_is_found_by_cleanup() {
    let home = TestHome::new();
    started(&home, "web");
    sql(&home, "DELETE FROM vm");
    fs::remove_dir_all(home.runtime()).unwrap();

    let items = items(&home, &["--end-orphans"], 0);

    assert_eq!(outcomes(&items)[0], ("orphan".to_owned(), "ended".to_owned()));
    assert_eq!(items[0]["method"], "sigterm", "{}", items[0]);
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
}

#[test]
fn test_cleanup_dead_run_is_reconciled_and_sockets_removed() {
    let home = TestHome::new();
    started(&home, "web");
    assert_eq!(kill_naming(home.root()).len(), 1);

    let would = outcomes(&items(&home, &["--dry-run"], 0));
    assert_eq!(would, [("run".to_owned(), "reconciled".to_owned())]);
    assert!(home.stale_files().iter().any(|path| path.ends_with("qmp.sock")));
    items(&home, &[], 0);

    assert!(!home.stale_files().iter().any(|path| path.starts_with(home.runtime())), "{:?}", home.stale_files());
    let status = home.json(&["status", "web"]);
    assert_eq!((&status["status"], &status["reason"]), (&json!("stopped"), &json!("crashed")));
    assert_eq!(items(&home, &[], 0), Vec::<Value>::new());
}

#[test]
fn test_cleanup_removes_stale_files_of_every_kind_only() {
    const GONE: &str = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11";
    let home = TestHome::new();
    started(&home, "web");
    let of_vm = home.files();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let left = [
        home.write(format!("run/maqet/{}/b3/qmp.sock", "0d9f2ac358b1"), ""),
        home.write(format!("state/maqet/{GONE}/boot-3/serial.log"), "words"),
        home.write(format!("data/maqet/locks/vm-{GONE}.lock"), ""),
        home.write(format!("data/maqet/storage/web/.hdd.qcow2.partial-{}-1-1-0badcafe", &boot[..8]), ""),
    ];

    let would = items(&home, &["--dry-run"], 0);
    assert!(left.iter().all(|path| path.exists()));
    let done = items(&home, &[], 0);

    assert_eq!(outcomes(&would), outcomes(&done));
    let kinds: Vec<String> = outcomes(&done).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["records", "sockets", "lock", "temporary"]);
    assert!(left.iter().all(|path| !path.exists()));
    let gone: Vec<&PathBuf> = of_vm.iter().filter(|path| !path.exists() && !is_sqlites(path)).collect();
    assert_eq!(gone, Vec::<&PathBuf>::new());
    home.json(&["stop", "web", "--force"]);
}

/// SQLite removes its log and index when the last process closes the database.
fn is_sqlites(path: &Path) -> bool {
    path.to_string_lossy().ends_with("-wal") || path.to_string_lossy().ends_with("-shm")
}

#[test]
fn test_doctor_second_database_is_not_reported_as_lost() {
    let home = TestHome::new();
    let pid = started(&home, "web");
    let other = |arguments: &[&str]| home.maqet(arguments).env("MAQET_DATABASE", home.path("other.db")).run().ok();

    assert_eq!(other(&["ls", "--format", "json"]).json_value(), json!([]));
    other(&["cleanup", "--end-orphans"]);
    other(&["doctor", "--fix"]);

    let status = home.json(&["status", "web"]);
    assert_eq!((&status["status"], status["pid"].as_i64()), (&json!("paused"), Some(pid)));
    findings(&home, &[], 0);
    home.json(&["stop", "web", "--force"]);
}
