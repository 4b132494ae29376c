//! Moves of several images, killed between two of them.

use std::path::PathBuf;

use maqet_fault_points::{FaultPoint, VARIABLE};
use maqet_testkit::{TestHome, guest};
use serde_json::json;

use super::fixture::{Fixture, message};

/// Runs a command that is killed at a step.
#[track_caller]
fn kill_at(home: &TestHome, command: &[&str], point: FaultPoint) {
    let killed = home.maqet(command.iter()).env(VARIABLE, point.to_string()).run();
    assert_eq!(killed.code, None, "it was not killed:\n{killed}");
}

/// One of two images, on different file systems, was moved.
#[test]
fn test_rm_killed_halfway_is_undone_by_the_next_command() {
    let fixture = Fixture::in_home(TestHome::with_fault_points());
    let home = &fixture.home;
    let disks = fixture.create_web();
    let exist = || disks.clone().map(|disk| disk.exists());
    let rm = ["rm", "web", "--delete-storage"];

    for next in [vec!["start", "web"], vec!["doctor", "--fix"], vec!["snapshot", "create", "web", "hdd", "one"]] {
        kill_at(home, &rm, FaultPoint::TrashMoved);
        assert_eq!(exist(), [false, true], "{next:?}");
        assert_eq!(home.json(&["storage", "trash", "ls"]), json!([]), "it is not removed");
        let diagnosis = home.maqet(["doctor", "--format", "json"]).run().code(1).json_value();
        assert!(diagnosis.to_string().contains("`rm` was interrupted"), "{diagnosis}");

        home.json(&next);

        assert_eq!(exist(), [true, true], "{next:?}");
        assert_eq!(fixture.remains(), Vec::<PathBuf>::new(), "{next:?}");
        home.json(&["stop", "web", "--force"]);
    }
    kill_at(home, &rm, FaultPoint::TrashMoved);
    home.json(&rm);
    assert_eq!(exist(), [false, false]);
}

/// One of two images was moved back.
#[test]
fn test_restore_killed_halfway_is_undone_and_done_again() {
    let fixture = Fixture::in_home(TestHome::with_fault_points());
    let home = &fixture.home;
    let [hdd, data] = fixture.create_web();
    home.json(&["rm", "web", "--delete-storage"]);
    let restore = ["storage", "trash", "restore", "web"];

    kill_at(home, &restore, FaultPoint::TrashRestored);
    assert!(hdd.exists() && !data.exists());
    let cleaned = home.json(&["cleanup"]);
    assert!(cleaned["items"].to_string().contains("whose restore was interrupted"), "{cleaned}");
    assert!(!hdd.exists());
    assert!(fixture.entry()["images"].as_array().unwrap().iter().all(|image| image["exists"] == true));
    kill_at(home, &[&restore[..], &["--name", "old"]].concat(), FaultPoint::TrashRestored);
    assert!(fixture.image("old").exists());

    home.json(&restore);

    assert!(hdd.exists() && data.exists() && !fixture.image("old").exists());
    assert_eq!(fixture.remains(), Vec::<PathBuf>::new());
    home.json(&["start", "web"]);
}

/// The images of a VM that another one took over are not taken from it.
#[test]
fn test_restore_killed_halfway_leaves_image_that_a_vm_uses() {
    let fixture = Fixture::in_home(TestHome::with_fault_points());
    let home = &fixture.home;
    let [hdd, _] = fixture.create_web();
    home.json(&["rm", "web", "--delete-storage"]);
    kill_at(home, &["storage", "trash", "restore", "web"], FaultPoint::TrashRestored);
    home.add(&format!("{}storage:\n  - {{name: hdd, size: 4M}}\n", guest::paused_yaml("web")));

    home.json(&["cleanup"]);
    let refused = home.json_error(&["storage", "trash", "restore", "web", "--name", "old"], 4);

    assert!(hdd.exists());
    assert_eq!(refused["code"], "trash.image-in-use", "{refused}");
    assert!(message(&refused).contains("drive `hdd` of VM `web`"), "{refused}");
}
