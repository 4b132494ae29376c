//! Changes that are not undone, because something is no longer as they left it.

use std::fs;
use std::os::unix::fs::FileExt;

use maqet_testkit::{TestHome, guest};
use serde_json::Value;

use super::fixture::{qemu_io, state, web_with_data};

/// Asserts that the last change is not undone, that a dry run says so, and that nothing is changed by either.
#[track_caller]
fn check_refused(home: &TestHome, reason: &str) {
    let dry_run = home.json(&["undo", "--dry-run"]);
    let refused = home.json_error(&["undo"], 4);

    assert!(dry_run["changes"][0]["problem"].as_str().is_some_and(|text| text.contains(reason)), "{dry_run}");
    assert_eq!(refused["code"], "history.undo-conflict", "{refused}");
    assert!(refused["causes"].to_string().contains(reason), "{refused}");
}

fn newest(home: &TestHome) -> Value {
    home.json(&["history", "--limit", "1"])[0].clone()
}

#[test]
fn test_undo_after_a_start_that_may_have_written_is_refused() {
    let home = TestHome::new();
    home.add(&format!("{}storage:\n  - {{name: hdd, size: 4M}}\n", guest::paused_yaml("web")));
    home.json(&["snapshot", "create", "web", "hdd", "one"]);
    home.json(&["snapshot", "load", "web", "hdd", "one"]);
    home.json(&["start", "web"]);
    check_refused(&home, "VM `web` is running");
    home.json(&["stop", "web", "--force"]);
    check_refused(&home, "VM `web` was started since");

    home.json(&["storage", "resize", "web", "hdd", "+1M"]);
    home.json(&["undo"]);
    let resized = home.json(&["history", "--vm", "web"]);
    assert_eq!(resized[0]["kind"], "undo", "the size is changed while the VM is stopped: {resized}");
}

#[test]
fn test_undo_with_a_name_or_a_disk_that_is_gone_is_refused() {
    let home = TestHome::new();
    web_with_data(&home);
    home.json(&["rm", "web"]);
    let number = newest(&home)["sequence"].to_string();
    let image = home.data().join("storage/web/hdd.qcow2");
    fs::rename(&image, home.path("away")).unwrap();
    check_refused(&home, "does not exist any more");
    fs::rename(home.path("away"), &image).unwrap();
    home.json(&["add", "--empty", "--name", "web"]);

    let refused = home.json_error(&["undo", "--entry", &number], 4);

    assert!(refused["causes"].to_string().contains("another VM has the name `web` now"), "{refused}");
    home.json(&["undo", "2"]);
    assert_eq!(home.json(&["snapshot", "ls", "web"]).as_array().unwrap().len(), 2);
}

#[test]
fn test_undo_out_of_order_after_another_change_is_refused() {
    let home = TestHome::new();
    home.add("name: web\n");
    home.json(&["apply", "web", "--set", "labels.a=1"]);
    let number = newest(&home)["sequence"].to_string();
    home.json(&["apply", "web", "--set", "labels.a=2"]);

    let refused = home.json_error(&["undo", "--entry", &number], 4);

    assert!(refused["causes"].to_string().contains("the definition of VM `web` was changed since"), "{refused}");
    assert_eq!(home.json_error(&["undo", "--entry", "999"], 3)["code"], "history.entry-not-found");
    assert_eq!(home.json_error(&["undo", "--vm", "db"], 4)["code"], "history.change-not-found");
}

#[test]
fn test_change_that_cannot_be_undone_says_so_before() {
    let home = TestHome::new();
    web_with_data(&home);

    let removed = home.maqet(["snapshot", "rm", "web", "hdd", "one"]).run().ok();

    assert!(removed.stderr.contains("note: this cannot be undone: the snapshot is deleted"), "{removed}");
    let refused = home.json_error(&["undo"], 4);
    assert_eq!(refused["code"], "history.undo-unsupported", "{refused}");
    assert_eq!(newest(&home)["irreversible"], "snapshot-deleted");
    let created = home.maqet(["snapshot", "create", "web", "hdd", "two"]).run().ok();
    assert_eq!(created.stderr, "");
}

/// Who did what, and what it was undone by.
#[test]
fn test_history_names_who_made_each_change() {
    let home = TestHome::new();
    home.add("name: web\n");
    home.json(&["apply", "web", "--set", "labels.a=1"]);
    home.json(&["undo"]);
    home.json(&["redo"]);
    home.json(&["rm", "web"]);

    let lines = home.json(&["history", "--vm", "web"]);
    let text = home.maqet(["history", "--limit", "4"]).run().ok().stdout;

    let kinds: Vec<&Value> = lines.as_array().unwrap().iter().map(|line| &line["kind"]).collect();
    assert_eq!(kinds, ["work", "redo", "undo", "work", "work"]);
    assert_eq!((&lines[1]["reverts"], &lines[2]["reverted_by"]), (&lines[2]["sequence"], &lines[1]["sequence"]));
    assert!(lines.as_array().unwrap().iter().all(|line| line["user"].is_string() && line["host"].is_string()));
    assert!(text.contains("took back 3") && text.contains("undid 2, taken back by 4"), "{text}");
    assert_eq!(text.lines().count(), 5, "{text}");
}

/// Asserts that the change with this number is not undone, and that nothing is changed by trying.
#[track_caller]
fn check_entry_refused(home: &TestHome, number: &Value, code: &str, reason: &str) {
    let number = number.to_string();
    let before = state(home);

    let dry_run = home.json(&["undo", "--entry", &number, "--dry-run"]);
    let refused = home.json_error(&["undo", "--entry", &number], 4);

    assert!(dry_run["changes"][0]["problem"].as_str().is_some_and(|text| text.contains(reason)), "{dry_run}");
    assert_eq!(refused["code"], code, "{refused}");
    assert!(refused["causes"].to_string().contains(reason), "{refused}");
    assert_eq!(state(home), before, "nothing is changed");
}

/// The newer snapshot of the same name is not removed.
#[test]
fn test_undo_of_what_is_undone_already_changes_nothing() {
    let home = TestHome::new();
    web_with_data(&home);
    home.json(&["snapshot", "create", "web", "hdd", "two"]);
    let number = newest(&home)["sequence"].clone();
    home.json(&["undo"]);
    home.json(&["snapshot", "create", "web", "hdd", "two"]);

    check_entry_refused(&home, &number, "history.entry-conflict", "reverted already");
}

#[test]
fn test_undo_of_a_newer_snapshot_of_the_same_name_is_refused() {
    let home = TestHome::new();
    web_with_data(&home);
    home.json(&["snapshot", "create", "web", "hdd", "two"]);
    let created = newest(&home)["sequence"].clone();
    home.json(&["snapshot", "rm", "web", "hdd", "two"]);
    home.json(&["snapshot", "create", "web", "hdd", "two"]);

    check_entry_refused(&home, &created, "history.undo-conflict", "was removed since, and created again");

    home.json(&["snapshot", "load", "web", "hdd", "one"]);
    let loaded = newest(&home)["sequence"].clone();
    home.json(&["snapshot", "rm", "web", "hdd", "before-load"]);
    home.json(&["snapshot", "load", "web", "hdd", "empty"]);

    check_entry_refused(&home, &loaded, "history.undo-conflict", "was removed since, and created again");
}

/// Another tool wrote to the new image while the VM was stopped.
#[test]
fn test_undo_of_a_conversion_keeps_what_was_written_since() {
    let home = TestHome::new();
    web_with_data(&home);
    let image = home.data().join("storage/web/hdd.qcow2");
    home.json(&["storage", "resize", "web", "hdd", "5M"]);
    let resized = newest(&home)["sequence"].clone();
    qemu_io(&image, "write -P 0x33 4M 64k");

    check_entry_refused(&home, &resized, "history.undo-conflict", "was changed since");

    qemu_io(&image, "discard 4M 64k");
    qemu_io(&image, "write -P 0x33 1M 64k");
    home.json(&["undo", "--entry", &resized.to_string()]);

    home.add("name: db\nmemory: 64M\nstorage:\n  - {name: hdd, size: 2M}\n");
    home.json(&["snapshot", "create", "db", "hdd", "first"]);
    home.json(&["snapshot", "rm", "db", "hdd", "first"]);
    home.json(&["storage", "convert", "db", "hdd", "raw"]);
    let converted = newest(&home)["sequence"].clone();
    let raw = home.data().join("storage/db/hdd.raw");
    fs::OpenOptions::new().write(true).open(raw).unwrap().write_all_at(b"data", 0).unwrap();

    check_entry_refused(&home, &converted, "history.undo-conflict", "was changed since");
}
