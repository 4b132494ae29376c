//! Conversions, compaction, checks: the content stays.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use maqet_testkit::{TestHome, qcow2, qemu};
use serde_json::{Value, json};

use super::{VM, assert_files, content, home_with, image, tool, write_patterns, yaml};

const PATTERNS: [&str; 3] = ["write -P 5 0 3M", "write -P 6 7M 64k", "write -z 1M 1M"];

#[test]
fn test_convert_between_formats_keeps_content() {
    let home = home_with("  - {name: hdd, size: 8M}\n");
    write_patterns(&image(&home, "hdd.qcow2"), "qcow2", &PATTERNS);
    let before = content(&image(&home, "hdd.qcow2"), "qcow2");

    let converted = home.json(&["storage", "convert", VM, "hdd", "raw"]);

    assert_eq!(converted["old_file"], json!(image(&home, "hdd.qcow2")));
    assert_eq!(content(&image(&home, "hdd.raw"), "raw"), before);
    assert_eq!(content(&image(&home, "hdd.qcow2"), "qcow2"), before);
    let refused = home.json_error(&["storage", "convert", VM, "hdd", "qcow2"], 4);
    assert_eq!(refused["code"], "storage.exists", "{refused}");
    assert_eq!(home.json(&["start", VM])["status"], "paused");
    home.json(&["stop", VM, "--force"]);
    let elsewhere = home.path("disks.d/a b,c.qcow2");
    fs::create_dir(home.path("disks.d")).unwrap();
    let options = ["--file", elsewhere.to_str().unwrap(), "--compress", "--remove-old"];
    home.maqet(["storage", "convert", VM, "hdd", "qcow2"]).args(options).run().ok();
    assert_eq!(content(&elsewhere, "qcow2"), before);
    assert!(!image(&home, "hdd.raw").exists());
    assert_eq!(home.json(&["storage", "ls", VM])[0]["file"], json!(elsewhere));
    assert_eq!(home.json(&["start", VM])["status"], "paused");
    home.json(&["stop", VM, "--force"]);
}

#[test]
fn test_convert_of_overlay_has_the_data_of_its_backing_file() {
    let home = TestHome::new();
    let base = home.path("base.qcow2");
    tool(&["create", "-q", "-f", "qcow2", base.to_str().unwrap(), "8M"]);
    write_patterns(&base, "qcow2", &["write -P 3 0 4M"]);
    home.add(&yaml(&format!("  - {{name: hdd, backing_file: {}}}\n", base.display())));
    home.json(&["start", VM]);
    home.json(&["stop", VM, "--force"]);
    let disk = image(&home, "hdd.qcow2");
    write_patterns(&disk, "qcow2", &PATTERNS);
    let before = content(&disk, "qcow2");
    let listed = home.maqet(["storage", "ls", VM]).run().ok().stdout;
    assert!(listed.lines().nth(2).unwrap().contains(&format!("└─ {}", base.display())), "{listed}");

    home.json(&["storage", "convert", VM, "hdd", "qcow2"]);

    fs::remove_file(base).unwrap();
    assert_eq!(content(&disk, "qcow2"), before);
    let listed = home.json(&["storage", "ls", VM]);
    assert_eq!((&listed[0]["backing"], &listed[0]["virtual_bytes"]), (&json!(null), &json!(8 << 20)), "{listed}");
    assert_eq!(home.json(&["start", VM])["status"], "paused");
    home.json(&["stop", VM, "--force"]);
    assert_files(&home, &["hdd.qcow2"]);
}

#[test]
fn test_compact_gives_zeros_back_and_keeps_the_rest() {
    let home = TestHome::new();
    let base = home.path("base.qcow2");
    tool(&["create", "-q", "-f", "qcow2", base.to_str().unwrap(), "32M"]);
    write_patterns(&base, "qcow2", &["write -P 3 0 4M"]);
    home.add(&yaml(&format!("  - {{name: hdd, backing_file: {}}}\n", base.display())));
    home.json(&["start", VM]);
    home.json(&["stop", VM, "--force"]);
    let disk = image(&home, "hdd.qcow2");
    fs::rename(&disk, home.path("real.qcow2")).unwrap();
    symlink(home.path("real.qcow2"), &disk).unwrap();
    fs::set_permissions(home.path("real.qcow2"), fs::Permissions::from_mode(0o640)).unwrap();
    write_patterns(&disk, "qcow2", &["write -P 7 2M 20M", "write -P 0 4M 16M"]);
    let before = content(&disk, "qcow2");

    let compacted = home.json(&["storage", "compact", VM, "hdd"]);

    let sizes = [&compacted["before_bytes"], &compacted["allocated_bytes"]].map(|bytes| bytes.as_u64().unwrap());
    assert!(sizes[0] > 20 << 20 && sizes[1] < 6 << 20, "{compacted}");
    assert_eq!(content(&disk, "qcow2"), before);
    assert!(disk.is_symlink());
    assert_eq!(fs::metadata(&disk).unwrap().mode() & 0o7777, 0o640);
    let listed = home.json(&["storage", "ls", VM]);
    assert_eq!(listed[0]["backing"][0]["file"], json!(base), "{listed}");
    assert_eq!(home.json(&["storage", "compact", VM, "hdd"])["replaced"], false);
    assert_files(&home, &["hdd.qcow2"]);
}

#[test]
fn test_image_with_snapshots_is_kept_unless_allowed() {
    let home = home_with("  - {name: hdd, size: 8M}\n");
    write_patterns(&image(&home, "hdd.qcow2"), "qcow2", &["write -P 5 0 3M"]);
    home.json(&["snapshot", "create", VM, "hdd", "clean"]);
    write_patterns(&image(&home, "hdd.qcow2"), "qcow2", &["write -P 6 0 3M"]);
    // Inside the image, it is `clean~2` now.
    home.json(&["snapshot", "create", VM, "hdd", "clean", "--overwrite"]);

    for command in [&["compact"][..], &["convert"]] {
        let format: &[&str] = if command == ["convert"] { &["qcow2"] } else { &[] };
        let refused = home.json_error(&[&["storage"], command, &[VM, "hdd"], format].concat(), 4);

        assert_eq!(refused["code"], "storage.snapshots-conflict", "{refused}");
        assert!(refused["message"].as_str().unwrap().ends_with("`clean`"), "{refused}");
    }
    home.json(&["storage", "compact", VM, "hdd", "--discard-snapshots"]);
    assert_eq!(home.json(&["snapshot", "ls", VM]), json!([]));
}

#[test]
fn test_verify_repairs_only_on_request_and_after_a_copy() {
    let home = home_with("  - {name: hdd, size: 8M}\n  - {name: raw, type: raw, size: 1M}\n");
    let disk = image(&home, "hdd.qcow2");
    write_patterns(&disk, "qcow2", &PATTERNS);
    let before = content(&disk, "qcow2");
    assert_eq!(home.json(&["storage", "verify", VM, "hdd"])["sound"], true);
    qcow2::leak_cluster(&disk);
    let damaged = fs::read(&disk).unwrap();

    let found = home.maqet(["storage", "verify", VM, "hdd", "--format", "json"]).run().code(1).json_value();

    assert_eq!((&found["sound"], &found["images"][0]["leaks"]), (&json!(false), &json!(1)), "{found}");
    assert_eq!(fs::read(&disk).unwrap(), damaged);
    let repaired = home.json(&["storage", "verify", VM, "hdd", "--repair", "leaks"]);
    assert_eq!((&repaired["sound"], &repaired["images"][0]["leaks_repaired"]), (&json!(true), &json!(1)));
    assert_eq!(fs::read(repaired["images"][0]["copy"].as_str().unwrap()).unwrap(), damaged);
    assert_eq!(content(&disk, "qcow2"), before);
    assert_eq!(home.json(&["storage", "verify", VM, "hdd", "--repair", "all"])["images"][0]["copy"], json!(null));
    let all = home.json(&["storage", "verify", VM]);
    let drives = all["images"].as_array().unwrap().iter().map(|image| (&image["drive"], &image["checked"]));
    assert_eq!(drives.collect::<Vec<_>>(), [(&json!("hdd"), &json!(true)), (&json!("raw"), &json!(false))]);
    let events = home.maqet(["events", "--type", "storage.repaired"]).run().ok();
    assert_eq!(events.stdout.lines().count(), 1, "{events}");
}

/// What changed since the last backup would otherwise miss what the repair changed.
#[test]
fn test_repair_of_errors_removes_the_record_of_changes() {
    let home = home_with("  - {name: hdd, size: 8M}\n");
    let disk = image(&home, "hdd.qcow2");
    write_patterns(&disk, "qcow2", &PATTERNS);
    for name in ["maqet-backup-x", "of-another-tool"] {
        tool(&["bitmap", "--add", disk.to_str().unwrap(), name]);
    }
    let bitmaps = || {
        let info = Command::new(qemu::image_tool()).args(["info", "--output=json"]).arg(&disk).output().unwrap();
        let info: Value = serde_json::from_slice(&info.stdout).unwrap();
        let found = info["format-specific"]["data"]["bitmaps"].as_array().cloned().unwrap_or_default();
        found.iter().map(|bitmap| bitmap["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    qcow2::leak_cluster(&disk);
    home.json(&["storage", "verify", VM, "hdd", "--repair", "leaks"]);
    assert_eq!(bitmaps().len(), 2);
    free_first_data_cluster(&disk);

    let repaired = home.json(&["storage", "verify", VM, "hdd", "--repair", "all"]);

    assert_eq!(
        (&repaired["sound"], &repaired["images"][0]["errors_repaired"]),
        (&json!(true), &json!(1)),
        "{repaired}"
    );
    assert_eq!(bitmaps(), ["of-another-tool"]);
}

/// Has the first cluster with data counted as free.
fn free_first_data_cluster(disk: &Path) {
    let file = fs::File::options().write(true).open(disk).unwrap();
    file.write_all_at(&[0, 0], 0x2_0000 + 2 * 5).unwrap();
}

#[test]
fn test_convert_of_damaged_image_is_refused() {
    let home = home_with("  - {name: hdd, size: 8M}\n");
    let disk = image(&home, "hdd.qcow2");
    write_patterns(&disk, "qcow2", &PATTERNS);
    free_first_data_cluster(&disk);

    let refused = home.json_error(&["storage", "compact", VM, "hdd"], 69);

    assert_eq!(refused["code"], "storage.image-corrupt", "{refused}");
    assert_files(&home, &["hdd.qcow2"]);
}
