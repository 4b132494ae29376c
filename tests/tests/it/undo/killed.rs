//! Undos that are killed.

use maqet_fault_points::{FaultPoint, VARIABLE};
use maqet_testkit::TestHome;
use serde_json::Value;

use super::fixture::{state, web_with_data};

#[track_caller]
fn kill_at(home: &TestHome, command: &[&str], point: FaultPoint) {
    let killed = home.maqet(command.iter()).env(VARIABLE, point.to_string()).run();
    assert_eq!(killed.code, None, "it was not killed:\n{killed}");
}

fn kinds(home: &TestHome) -> Vec<Value> {
    home.json(&["history"]).as_array().unwrap().iter().map(|line| line["kind"].clone()).collect()
}

/// Wherever an undo is killed, it is done as a whole, or can be tried again.
#[test]
fn test_undo_killed_at_each_step_is_done_or_tried_again() {
    let home = TestHome::with_fault_points();
    web_with_data(&home);
    let undone = state(&home);
    let changes: [(&[&str], &[FaultPoint]); 3] = [
        (
            &["snapshot", "load", "web", "hdd", "one"],
            &[
                FaultPoint::Marked("snapshot.load"),
                FaultPoint::SnapshotStep,
                FaultPoint::BeforeCommit("snapshot.load"),
                FaultPoint::Committed("snapshot.load"),
            ],
        ),
        (
            &["rm", "web", "--delete-storage"],
            &[FaultPoint::TrashRestored, FaultPoint::BeforeCommit("storage.trash.restore")],
        ),
        (
            &["storage", "resize", "web", "hdd", "+1M"],
            &[FaultPoint::Locked("storage.resize"), FaultPoint::BeforeCommit("storage.resize")],
        ),
    ];
    for (change, points) in changes {
        for point in points {
            home.json(change);
            kill_at(&home, &["undo"], *point);
            // The next command for the VM, or for the trash, recovers it.
            for next in [&["apply", "web", "--set", "labels={}", "--dry-run"][..], &["cleanup"]] {
                let _ = home.maqet(next.iter()).run();
            }
            if kinds(&home)[0] != "undo" {
                home.json(&["undo"]);
            }

            assert_eq!(state(&home), undone, "{change:?} at {point:?}");
            assert_eq!(kinds(&home)[0], "undo", "{change:?} at {point:?}");
        }
    }
}
