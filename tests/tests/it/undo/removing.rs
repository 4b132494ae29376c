//! Undos of a removal that is committed, while the command that made it still removes files.

use std::fs;
use std::path::PathBuf;

use maqet_fault_points::{FaultPoint, VARIABLE};
use maqet_testkit::{TestHome, guest, process, wait};
use serde_json::Value;

use super::fixture::state;

/// `web` has files of a run, and a disk with a snapshot.
fn home_with_run() -> TestHome {
    let home = TestHome::with_fault_points();
    home.add(&(guest::paused_yaml("web") + "storage: [{name: hdd, size: 4M}]\n"));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    home.json(&["snapshot", "create", "web", "hdd", "one"]);
    home
}

fn write_lock_timeout(home: &TestHome, timeout: &str) {
    home.write("config/maqet/maqet.conf", format!("timeouts: {{lock: {timeout}}}\n"));
}

/// Returns whether a process has opened a lock.
fn has_lock(pid: u32) -> Option<()> {
    let is_lock = |path: PathBuf| path.extension().is_some_and(|extension| extension == "lock");
    let mut opened = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    opened.any(|entry| fs::read_link(entry.path()).is_ok_and(is_lock)).then_some(())
}

/// An undo that does not wait is refused and changes nothing; one that waits brings all back, of which nothing is removed
/// any more.
#[test]
fn test_undo_of_rm_that_still_removes_files_waits_or_is_refused() {
    let home = home_with_run();
    let before = state(&home);
    for command in [&["rm", "web"][..], &["rm", "web", "--delete-storage"]] {
        for point in [FaultPoint::Committed("rm"), FaultPoint::RmFilesRemoved] {
            let removal = home.maqet(command).env(VARIABLE, format!("{point}:stop")).spawn();
            process::until_suspended(removal.pid());

            write_lock_timeout(&home, "100ms");
            let refused = home.json_error(&["undo"], 75);
            let listed = home.json(&["ls"]);
            write_lock_timeout(&home, "2m");
            let undo = home.maqet(["undo"]).spawn();
            wait::until(wait::LONG, "the undo to open a lock", || has_lock(undo.pid()));
            process::resume(removal.pid());
            let _removed = removal.wait().ok();
            let _undone = undo.wait().ok();

            assert_eq!(refused["code"], "lock.in-use", "{command:?} at {point}: {refused}");
            assert_eq!(listed, Value::Array(Vec::new()), "{command:?} at {point}");
            assert_eq!(state(&home), before, "{command:?} at {point}");
            assert_eq!(home.json(&["doctor"])["healthy"], true, "{command:?} at {point}");
        }
    }
    home.json(&["start", "web"]);
}
