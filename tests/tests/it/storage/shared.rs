//! Images that others use, such as backing files: what would take data from the others is refused.

use std::fs;

use maqet_testkit::{TestHome, guest};
use serde_json::{Value, json};

use super::{VM, content, home_with, image, write_patterns};

/// Adds a VM whose disk is an overlay of that of the first one.
fn add_overlay(home: &TestHome, name: &str) {
    let base = image(home, "hdd.qcow2");
    home.add(&format!("{}storage: [{{name: o, backing_file: {}}}]\n", guest::paused_yaml(name), base.display()));
}

#[track_caller]
fn assert_refused(home: &TestHome, user: &str) {
    let base = image(home, "hdd.qcow2");
    let before = content(&base, "qcow2");
    for command in [&["convert", VM, "hdd", "raw", "--remove-old"][..], &["resize", VM, "hdd", "1M", "--shrink"]] {
        let refused = home.json_error(&[&["storage"], command].concat(), 4);

        assert_eq!(refused["code"], "storage.image-in-use", "{refused}");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains("is a backing file of") && message.contains(user), "{refused}");
    }
    assert_eq!(content(&base, "qcow2"), before);
}

#[test]
fn test_base_of_any_overlay_is_neither_removed_nor_shrunk() {
    let home = home_with("  - {name: hdd, size: 4M}\n");
    write_patterns(&image(&home, "hdd.qcow2"), "qcow2", &["write -P 5 0 4M"]);

    // The overlay does not exist yet.
    add_overlay(&home, "clone");
    assert_refused(&home, "drive `o` of VM `clone`");
    home.json(&["start", "clone"]);
    home.json(&["stop", "clone", "--force"]);
    let used = home.json(&["storage", "info", VM, "hdd"])["used_by"].clone();
    assert_eq!(used[0]["user"], json!({ "drive": { "vm": "clone", "drive": "o" } }), "{used}");
    // No VM has the overlay.
    home.json(&["rm", "clone"]);
    assert_refused(&home, "storage/clone/o.qcow2");
    // It is in the trash.
    add_overlay(&home, "clone");
    home.json(&["start", "clone"]);
    home.json(&["stop", "clone", "--force"]);
    let removed = home.json(&["rm", "clone", "--delete-storage"]);
    assert_refused(&home, removed["trash"]["entry"].as_str().unwrap());

    home.json(&["storage", "trash", "empty"]);
    let converted = home.json(&["storage", "convert", VM, "hdd", "raw", "--remove-old"]);
    assert_eq!(converted.get("old_file"), None::<&Value>, "{converted}");
    assert!(fs::metadata(image(&home, "hdd.qcow2")).is_err());
}
