//! Disks of a definition: what is checked before any is created, and which keep their size.

use std::fs;
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use maqet_testkit::{TestHome, guest, wait};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::output::failure;

/// Returns the existing images of VMs.
fn images(home: &TestHome) -> Vec<PathBuf> {
    let storage = home.data().join("storage");
    home.files().into_iter().filter(|file| file.starts_with(&storage)).collect()
}

fn paused(storage: &str) -> String {
    format!("{}storage:\n{storage}", guest::paused_yaml("web"))
}

/// The columns of a VM's last run.
const RUN: &str = "boot, started_at, phase, end_reason, ended_at, pid, start_ticks, host_boot, sockets, records";

/// The database is a backup from the first run; the VM was started `times` since then.
#[test]
fn test_start_with_unknown_qemu_of_vm_explains_adoption() {
    for (times, code, hint) in [(1, "vm.run-in-use", 1), (2, "vm.orphan-conflict", 0)] {
        let home = TestHome::new();
        let file = home.write("vm.yaml", paused("  - {name: hdd, size: 1M}\n"));
        home.json(&["add", file.to_str().unwrap()]);
        home.json(&["start", "web"]);
        home.json(&["stop", "web", "--force"]);
        let database = Connection::open(home.data().join("maqet.db")).unwrap();
        database.execute_batch("CREATE TEMP TABLE backup AS SELECT * FROM vm").unwrap();
        for _ in 1..times {
            home.json(&["start", "web"]);
            home.json(&["stop", "web", "--force"]);
        }
        let pid = home.json(&["start", "web"])["pid"].clone();
        database.execute_batch(&format!("UPDATE vm SET ({RUN}) = (SELECT {RUN} FROM temp.backup)")).unwrap();

        let refused = home.json_error(&["start", "web"], 4);

        assert_eq!(refused["code"], code, "{refused}");
        assert!(refused.to_string().contains(&pid.to_string()), "{refused}");
        assert!(refused["hints"][hint].as_str().unwrap().contains("cleanup --adopt-orphans"), "{refused}");
        let image = images(&home).remove(0);
        home.add(&guest::paused_yaml("other"));
        home.json(&["start", "other"]);
        let plug = ["qmp", "device-add", "other", "virtio-blk-pci", "--file", image.to_str().unwrap()];
        let held = home.json_error(&plug, 4);
        assert_eq!(held["code"], "vm.orphan-conflict", "{held}");
        assert!(held.to_string().contains(&pid.to_string()), "{held}");
        home.json(&["stop", "other", "--force"]);
        home.json(&["cleanup", "--adopt-orphans"]);
        assert_eq!(home.json(&["status", "web"])["pid"], pid);
        home.json(&["stop", "web", "--force"]);
    }
}

#[test]
fn test_start_image_held_by_other_program_names_it() {
    let home = TestHome::new();
    let file = home.write("vm.yaml", paused("  - {name: hdd, size: 1M}\n"));
    home.json(&["add", file.to_str().unwrap()]);
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    let image = images(&home).remove(0);
    let mut other = std::process::Command::new("qemu-system-x86_64")
        .args(["-machine", "none", "-accel", "tcg", "-display", "none", "-S", "-blockdev"])
        .arg(format!("driver=qcow2,node-name=a,file.driver=file,file.filename={}", image.display()))
        .args(["-serial", "stdio"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait::until_locked(&image);

    let refused = home.json_error(&["start", "web"], 75);

    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(refused["code"], "storage.in-use");
    let reported = refused.to_string();
    assert!(reported.contains(&format!("`qemu-system-x86` (process {})", other.id())), "{reported}");
}

#[test]
fn test_start_missing_shared_folder_creates_no_disk() {
    let home = TestHome::new();
    let storage = "  - {name: hdd, size: 1M}\n  - {name: src, type: virtfs, path: share}\n";
    let file = home.write("vm.yaml", paused(storage));

    let refused = home.maqet(["add", "--start", "--format", "json"]).arg(&file).run().code(3);

    assert!(refused.stderr.contains("storage.directory-not-found"), "{refused}");
    assert_eq!(images(&home), Vec::<PathBuf>::new());
    assert_eq!(home.json(&["status", "web"])["status"], "defined");
    assert_eq!(home.json(&["info", "web"])["storage"][0]["exists"], false);

    home.json(&["rm", "web"]);
    fs::create_dir(home.path("share")).unwrap();
    let started = home.maqet(["add", "--start", "--format", "json"]).arg(&file).run().ok().json_value();
    assert_eq!((&started["status"], started.get("size_mismatches")), (&json!("paused"), None));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_start_missing_image_or_backing_file_creates_no_disk() {
    let home = TestHome::new();
    let base = home.write("base.qcow2", "");
    home.add(&paused("  - {name: hdd, size: 1M}\n  - {name: over, backing_file: base.qcow2, backing_format: raw}\n"));
    fs::remove_file(base).unwrap();

    assert_eq!(home.json_error(&["start", "web"], 3)["code"], "storage.backing-not-found");
    assert_eq!(images(&home), Vec::<PathBuf>::new());

    let file = home.write("vm.yaml", paused("  - {name: hdd, size: 1M}\n  - {name: cd, type: iso, file: no.iso}\n"));
    home.json(&["apply", "web", file.to_str().unwrap()]);
    assert_eq!(home.json_error(&["start", "web"], 3)["code"], "storage.not-found");
    assert_eq!(images(&home), Vec::<PathBuf>::new());
}

#[test]
fn test_backing_file_missing_is_reported_with_location() {
    let home = TestHome::new();
    home.write("vm.yaml", "name: web\nstorage:\n  - {name: hdd, backing_file: no.qcow2}\n");

    let checked = failure(&home, &["config", "check", "vm.yaml"]);
    let added = failure(&home, &["add", "vm.yaml"]);

    assert_snapshot!(checked, @"
    config.invalid, exit code 2
    error: `storage[0].backing_file`: backing file `[home]/no.qcow2` not found
     --> vm.yaml:3:31
      |
    3 |   - {name: hdd, backing_file: no.qcow2}
      |                               ^^^^^^^^ here
      |
      = help: correct the path, or create the image first
    ");
    assert_eq!(added, checked);
    assert_eq!(home.json(&["ls"]), json!([]));
}

#[test]
fn test_backing_file_of_earlier_entry_is_created_first() {
    let home = TestHome::new();
    let storage = "  - {name: base, file: base.qcow2, size: 1M, interface: none}\n  \
                   - {name: over, backing_file: base.qcow2, backing_format: qcow2}\n";
    home.add(&paused(storage));

    // QEMU refuses an image that is both open for writing and a backing file.
    let started = home.maqet(["start", "web"]).run();

    assert!(images(&home).iter().any(|image| image.ends_with("over.qcow2")), "{started}");
}

/// Returns the size of the drive `hdd` as the guest of a running VM sees it.
fn size_in_the_guest(home: &TestHome) -> Value {
    let nodes = home.json(&["qmp", "web", "query-named-block-nodes"]);
    let node = nodes.as_array().unwrap().iter().find(|node| node["node-name"] == "hdd").unwrap();
    node["image"]["virtual-size"].clone()
}

#[test]
fn test_size_increase_is_reported_as_kept_by_apply_and_start() {
    let home = TestHome::new();
    home.add(&paused("  - {name: hdd, size: 1M}\n"));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);

    let applied = home.json(&["apply", "web", "--set", "storage.hdd.size=2M"]);
    let again = home.maqet(["apply", "web", "--set", "storage.hdd.size=3M", "--dry-run"]).run().ok();
    let started = home.json(&["start", "web"]);

    let kept = json!([{ "drive": "hdd", "size_bytes": 1 << 20, "configured_bytes": 2 << 20 }]);
    assert_eq!((&applied["size_mismatches"], &started["size_mismatches"]), (&kept, &kept));
    let reported = "note: drive `hdd` keeps its size of 1M; `size: 3M` applies only when an image is created: \
                    change the image with `maqet storage resize web hdd 3M`\n";
    assert_eq!(again.stderr, reported);
    assert_eq!(size_in_the_guest(&home), json!(1 << 20));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_size_mismatch_of_kept_image_is_reported_at_each_start() {
    let home = TestHome::new();
    home.add(&paused("  - {name: hdd, size: 1M}\n"));
    home.json(&["start", "web"]);
    home.json(&["rm", "web", "--force"]);
    home.add(&paused("  - {name: hdd, size: 2M}\n"));

    for _ in 0..2 {
        let started = home.json(&["start", "web"]);

        assert_eq!(started["size_mismatches"][0]["size_bytes"], json!(1 << 20), "{started}");
        home.json(&["stop", "web", "--force"]);
    }
}

#[test]
fn test_size_rounded_up_to_sectors_is_not_a_mismatch() {
    let home = TestHome::new();
    fs::write(home.path("old.raw"), [0; 1024]).unwrap();
    home.add(&paused("  - {name: hdd, type: raw, file: old.raw, size: 1000B}\n"));

    let started = home.json(&["start", "web"]);

    assert_eq!(started.get("size_mismatches"), None, "{started}");
    assert!(Path::new(&home.path("old.raw")).exists());
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_start_readonly_disks_run_on_each_interface_allowed() {
    let home = TestHome::new();
    for name in ["virtio", "scsi", "nvme"] {
        fs::write(home.path(format!("{name}.raw")), vec![0; 1 << 20]).unwrap();
    }
    home.add(&paused(
        "  - {name: a, type: raw, file: virtio.raw, readonly: true}\n  \
           - {name: b, type: raw, file: scsi.raw, readonly: true, interface: scsi}\n  \
           - {name: c, type: raw, file: nvme.raw, readonly: true, interface: nvme}\n",
    ));

    home.json(&["start", "web"]);

    let disks = home.json(&["inspect", "web"])["disks"].clone();
    let readonly: Vec<&Value> = disks.as_array().unwrap().iter().map(|disk| &disk["readonly"]).take(3).collect();
    assert_eq!(readonly, [&json!(true), &json!(true), &json!(true)], "{disks}");
    home.json(&["stop", "web", "--force"]);
}
