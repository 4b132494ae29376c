//! Several changes that are undone at once, and records that other VMs share.

use maqet_testkit::TestHome;
use serde_json::Value;

use super::fixture::{qemu_io, web_with_data};

/// Returns the problems that a dry run of an undo reports, the newest change first.
#[track_caller]
fn problems(home: &TestHome, count: &str) -> Vec<Option<String>> {
    let dry_run = home.json(&["undo", count, "--dry-run"]);
    let changes = dry_run["changes"].as_array().unwrap().iter();
    changes.map(|change| change["problem"].as_str().map(str::to_owned)).collect()
}

#[test]
fn test_dry_run_of_several_undos_checks_each_change() {
    let home = TestHome::new();
    web_with_data(&home);
    home.json(&["storage", "resize", "web", "hdd", "5M"]);
    home.json(&["snapshot", "create", "web", "hdd", "two"]);
    home.json(&["apply", "web", "--set", "labels.a=1"]);
    home.json(&["apply", "web", "--set", "labels.a=2"]);
    home.json(&["rm", "web", "--delete-storage"]);
    assert_eq!(problems(&home, "5"), vec![None; 5], "each finds what the undos before it leave");
    home.json(&["undo", "2"]);

    // What no undo changes back.
    qemu_io(&home.data().join("storage/web/hdd.qcow2"), "write -P 0x33 4M 64k");
    home.json(&["snapshot", "rm", "web", "hdd", "two"]);
    let number = home.json(&["history", "--limit", "1"])[0]["sequence"].clone();
    home.json(&["apply", "web", "--set", "labels.b=1"]);
    let found = problems(&home, "5");

    assert_eq!(found.len(), 5);
    // A creation is undone although its snapshot was removed.
    assert_eq!([&found[0], &found[2], &found[3]], [&None; 3], "{found:?}");
    assert!(found[1].as_ref().is_some_and(|text| text.contains(&format!("change {number}"))), "{found:?}");
    assert!(found[4].as_ref().is_some_and(|text| text.contains("was changed since")), "{found:?}");
}

#[test]
fn test_undo_of_more_than_is_left_says_how_many_were_done() {
    let home = TestHome::new();
    home.add("name: web\n");
    home.json(&["apply", "web", "--set", "labels.a=1"]);

    let planned = home.maqet(["undo", "5", "--dry-run"]).run().ok().stdout;
    let undone = home.json(&["undo", "5"]);
    let redone = home.maqet(["redo", "3"]).run().ok().stdout;

    assert_eq!((&undone["requested"], undone["changes"].as_array().map(Vec::len)), (&Value::from(5), Some(2)));
    assert!(planned.ends_with("would undo 2 of 5 changes: nothing else is left to undo\n"), "{planned}");
    assert!(redone.ends_with("took back 2 of 3 changes: nothing else is left to redo\n"), "{redone}");
    assert_eq!(home.maqet(["undo", "2"]).run().ok().stdout.lines().count(), 2);
}

/// The image was recorded for another VM, which is removed by the time of the undo.
#[test]
fn test_undo_of_attach_after_the_earlier_vm_is_removed() {
    let home = TestHome::new();
    home.add("name: web\n");
    home.add("name: db\nstorage:\n  - {name: hdd, size: 2M}\n");
    let image = home.data().join("storage/db/hdd.qcow2");
    home.json(&["snapshot", "create", "db", "hdd", "first"]);
    home.write("db.yaml", "name: db\n");
    home.json(&["apply", "db", "db.yaml"]);
    home.json(&["storage", "attach", "web", image.to_str().unwrap()]);
    home.json(&["rm", "db"]);

    home.json(&["undo", "--vm", "web"]);

    let orphaned = home.json(&["storage", "orphaned"]).to_string();
    assert!(orphaned.contains(image.to_str().unwrap()), "{orphaned}");
    home.json(&["redo", "--vm", "web"]);
    assert_eq!(home.json(&["storage", "ls", "web"])[0]["file"], image.to_str().unwrap());
}
