//! The invariants of a home in which a command was killed.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use maqet_testkit::{TestHome, wait};
use serde_json::Value;

use super::scenario::{DRIVE, Scenario, VM, disks, trashed};

/// How long two observations may differ about processes that are just starting or ending.
const LIST_TIMEOUT: Duration = Duration::from_mins(1);

/// The age from which an incomplete file is surely stale.
const LONG: Duration = Duration::from_hours(1);

/// The state before the command.
#[derive(Debug, Default)]
pub(crate) struct Before {
    vms: BTreeSet<String>,
    disks: Vec<PathBuf>,
    snapshots: BTreeSet<String>,
}

impl Before {
    pub(crate) fn of(home: &TestHome, scenario: &Scenario) -> Self {
        if scenario.is_first() {
            // A query would create the database, which is one of the steps of the command.
            return Self::default();
        }
        let vms = names(&home.json(&["ls"]));
        let snapshots = if vms.contains(VM) { snapshots(home) } else { BTreeSet::new() };
        let disks = disks(home).into_iter().filter(|disk| !is_layer(disk)).collect();
        Self { vms, disks, snapshots }
    }
}

/// Whether the first command repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// `doctor --fix` comes first, and finds no trouble.
    Doctor,
    /// The other commands come first, and work without it.
    Commands,
}

impl First {
    /// Alternates.
    pub(crate) fn by_turns(number: usize) -> Self {
        if number.is_multiple_of(2) { Self::Commands } else { Self::Doctor }
    }
}

/// Asserts that nothing is lost, hidden or stuck, and that every command works; the home has no VM afterward.
pub(crate) fn check(home: &TestHome, scenario: &Scenario, before: &Before, first: First) {
    if first == First::Doctor {
        // Before any other command could have repaired anything.
        let diagnosis = home.json(&["doctor", "--fix"]);
        assert_eq!(diagnosis["healthy"], true, "{diagnosis}");
        check_database(home);
    }
    if scenario.is_recovered_by_changes() {
        // A command that only reads does not move disks back, nor end the QEMU of a backup.
        let _changed_or_not_there = home.maqet(["apply", VM, "--memory", "36M"]).run();
    }
    if scenario.is_fork() {
        // Nothing is left of one that is not complete.
        home.json(&["cleanup"]);
        if names(&home.json(&["ls"])).contains("fork") {
            assert_eq!(home.json(&["status", "fork"])["status"], "running");
            home.json(&["rm", "fork", "--force", "--delete-storage"]);
            // Its image would keep the checkpoint.
            home.json(&["storage", "trash", "empty"]);
        }
        assert_eq!(home.qemu_pids().len(), 1);
    }
    if scenario.is_upgrade() {
        // The guest is in one of the QEMUs, and runs.
        assert_eq!(home.qemu_pids().len(), 1);
        assert_eq!(home.json(&["status", VM])["status"], "running");
    }
    if scenario.is_of_checkpoints() {
        // While there is one, the VM and its disks stay.
        home.json(&["checkpoint", "rm", VM, "--all"]);
        assert!(!disks(home).iter().any(|disk| is_layer(disk)), "{:?}", disks(home));
    }
    let vms = shown_and_run(home);
    let lost: Vec<&String> = before.vms.difference(&vms).filter(|vm| !scenario.moves(vm)).collect();
    assert!(lost.is_empty(), "lost {lost:?}");
    let disks_now = [disks(home), trashed(home)].concat();
    let was_kept = |disk: &PathBuf| disk.exists() || (scenario.moves_disks() && disks_now.len() == 1);
    assert!(before.disks.iter().all(was_kept), "lost a disk of {:?}: {disks_now:?}", before.disks);
    assert!(!scenario.moves_disks() || disks_now.len() == 1, "the disk is lost, or there twice: {disks_now:?}");
    if vms.contains(VM) && before.vms.contains(VM) {
        let now = snapshots(home);
        let moved: Vec<&String> = now.symmetric_difference(&before.snapshots).collect();
        assert!(moved.iter().all(|snapshot| scenario.moves_snapshot(snapshot)), "moved {moved:?}");
    }
    check_database(home);

    for vm in &vms {
        check_commands(home, vm, if vm == "refused" { 2 } else { 0 });
    }
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
    check_disks(home, scenario.leaks());
    if !vms.contains(VM) {
        home.maqet(["add", "web.yaml"]).run().ok();
        home.json(&["rm", VM]);
    }
    assert_eq!(home.json(&["ls"]), Value::Array(Vec::new()));
    // A command killed after it removed the VM from the database leaves its files.
    let_time_pass(home);
    home.json(&["cleanup"]);
    assert_eq!(home.stale_files(), Vec::<PathBuf>::new());
    assert_eq!(home.json(&["cleanup"])["items"], Value::Array(Vec::new()));
    check_trash(home);
    check_database(home);
}

/// Asserts that what is in the trash can be restored with its snapshots, and that nothing of it is left then.
fn check_trash(home: &TestHome) {
    for entry in home.json(&["storage", "trash", "ls"]).as_array().unwrap() {
        assert!(entry["images"].as_array().unwrap().iter().all(|image| image["exists"] == true), "{entry}");
        home.json(&["storage", "trash", "restore", entry["entry"].as_str().unwrap()]);
        check_disks(home, false);
        assert!(snapshots(home).contains("one"), "{:?}", snapshots(home));
        home.json(&["rm", VM]);
    }
    let left: Vec<PathBuf> =
        home.files().into_iter().filter(|path| path.starts_with(home.data().join("trash"))).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

/// Ages files that a killed command was writing until `cleanup` takes them for stale.
fn let_time_pass(home: &TestHome) {
    let long_ago = SystemTime::now() - LONG;
    let is_temporary = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(".tmp") || name.ends_with(".tmp")
    };
    for path in home.stale_files() {
        for path in path.ancestors().take(2).filter(|path| is_temporary(path)) {
            File::open(path).and_then(|file| file.set_modified(long_ago)).unwrap();
        }
    }
}

/// Returns the VMs that `ls` shows, once it shows exactly the QEMUs that run.
fn shown_and_run(home: &TestHome) -> BTreeSet<String> {
    let mut seen = (Vec::new(), Value::Null);
    let listed = wait::try_until(LIST_TIMEOUT, || {
        seen = (home.qemu_pids().into_iter().map(i64::from).collect(), home.json(&["ls"]));
        let shown: BTreeSet<i64> = seen.1.as_array().unwrap().iter().filter_map(|vm| vm["pid"].as_i64()).collect();
        (shown == seen.0.iter().copied().collect()).then(|| names(&seen.1))
    });
    listed.unwrap_or_else(|| panic!("QEMUs {:?} run, and `ls` shows {}", seen.0, seen.1))
}

/// Asserts that every command works on a VM.
fn check_commands(home: &TestHome, vm: &str, code_of_start: i32) {
    home.json(&["status", vm]);
    home.json(&["info", vm]);
    home.maqet(["start", vm]).run().code(code_of_start);
    if code_of_start == 0 {
        let status = home.json(&["status", vm]);
        assert!(["paused", "running"].contains(&status["status"].as_str().unwrap()), "{status}");
    }
    home.json(&["stop", vm, "--force"]);
    assert_eq!(home.json(&["status", vm])["pid"], Value::Null);
    home.maqet(["apply", vm, "--memory", "40M"]).run().ok();
    if vm == VM {
        home.json(&["snapshot", "create", vm, DRIVE, "after"]);
        home.json(&["snapshot", "load", vm, DRIVE, "after"]);
        home.json(&["snapshot", "rm", vm, DRIVE, "after"]);
    }
    home.json(&["rm", vm]);
}

/// Asserts that the database is valid, if there is one; opening it must not create one.
fn check_database(home: &TestHome) {
    let file = home.data().join("maqet.db");
    if !file.exists() {
        return;
    }
    let database = rusqlite::Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let verdict: String = database.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

/// Returns whether a disk is a layer above that of a definition.
fn is_layer(disk: &Path) -> bool {
    disk.to_string_lossy().contains(".layer-")
}

fn check_disks(home: &TestHome, may_leak: bool) {
    const LEAKS: i32 = 3;
    for disk in disks(home) {
        let checked = Command::new("qemu-img").args(["check", "-q"]).arg(&disk).output().unwrap();
        let is_usable = checked.status.success() || may_leak && checked.status.code() == Some(LEAKS);
        assert!(is_usable, "{}: {checked:?}", disk.display());
    }
}

fn snapshots(home: &TestHome) -> BTreeSet<String> {
    names(&home.json(&["snapshot", "ls", VM]))
}

fn names(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}
