//! Disks that no VM uses, and drives made of them.

use std::path::Path;

use maqet_testkit::guest;
use serde_json::json;

use super::fixture::{Fixture, message, qemu_io};

#[test]
fn test_orphaned_images_are_listed_and_attached() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    let [hdd, data] = fixture.create_web();
    qemu_io(&hdd, "write -P 0x5a 0 64k");
    assert_eq!(home.json(&["storage", "orphaned"]), json!([]));
    home.json(&["rm", "web"]);
    let foreign = home.write("notes.raw", vec![7; 1 << 20]);
    home.add(&guest::paused_yaml("db"));

    let orphaned = home.json(&["storage", "orphaned"]);
    let attach = |image: &Path, more: &[&str]| {
        home.json(&[&["storage", "attach", "db", image.to_str().unwrap()], more].concat())
    };
    let attached = attach(&hdd, &[]);
    let renamed = attach(&data, &["--name", "d2", "--readonly"]);
    let used = attach(&foreign, &[]);
    let taken = home.json_error(&["storage", "attach", "db", hdd.to_str().unwrap()], 4);
    let absent = home.json_error(&["storage", "attach", "db", "/nonexistent.raw"], 3);

    let listed: Vec<&str> = orphaned.as_array().unwrap().iter().map(|image| image["path"].as_str().unwrap()).collect();
    let mut expected = [hdd.to_str().unwrap(), data.to_str().unwrap()];
    expected.sort_unstable();
    assert_eq!(listed, expected);
    assert_eq!(attached["drive"], "hdd");
    assert_eq!((&attached["owned"], &renamed["owned"], &used["owned"]), (&json!(true), &json!(true), &json!(false)));
    assert_eq!((&renamed["drive"], &used["type"]), (&json!("d2"), &json!("raw")));
    assert_eq!((&taken["code"], &absent["code"]), (&json!("storage.image-in-use"), &json!("storage.image-not-found")));
    assert_eq!(home.json(&["storage", "orphaned"]), json!([]));
    home.json(&["start", "db"]);
    home.json(&["rm", "db", "--force", "--delete-storage"]);
    assert!(!hdd.exists() && !data.exists() && foreign.exists(), "only what maqet created is moved");
    home.json(&["storage", "trash", "restore", "db"]);
    qemu_io(&hdd, "read -P 0x5a 0 64k");
}

#[test]
fn test_attach_backing_file_needs_readonly() {
    let fixture = Fixture::new();
    let home = &fixture.home;
    fixture.create("base", "  - {name: hdd, size: 4M}\n");
    let base = fixture.image("base");
    fixture.create("clone", &format!("  - {{name: hdd, size: 4M, backing_file: {}}}\n", base.display()));
    home.json(&["rm", "base"]);
    home.add(&guest::paused_yaml("db"));
    let base = base.to_str().unwrap();

    let written = home.json_error(&["storage", "attach", "db", base], 4);
    let read = home.json(&["storage", "attach", "db", base, "--readonly"]);

    assert!(message(&written).contains("a backing file of drive `hdd` of VM `clone`"), "{written}");
    assert!(written["hints"].to_string().contains("--readonly"), "{written}");
    assert_eq!(read["drive"], "hdd");
}
