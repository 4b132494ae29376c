//! Drives with `snapshot: true`: what the guest writes is lost at the end of the run, however that ends.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use maqet_testkit::guest::CountSector;
use maqet_testkit::{TestHome, guest, serial, wait};
use serde_json::json;

/// A VM that writes to two drives of 16 MiB; only the second one keeps it.
fn counting(home: &TestHome) {
    let yaml = CountSector::yaml("web", &CountSector::write(home), &["two"]);
    let first = "  - {name: one, type: raw, size: 16M, snapshot: true}\n";
    home.add(&yaml.replace("storage:\n", &format!("storage:\n{first}")));
}

fn image(home: &TestHome, name: &str) -> PathBuf {
    home.data().join("storage/web").join(name)
}

/// Waits until the guest has written five numbers in this run.
fn wait_for_writes(home: &TestHome) {
    let log = PathBuf::from(home.json(&["status", "web"])["serial_log"].as_str().unwrap());
    wait::until(wait::LONG, "the guest writes", || {
        (CountSector::numbers(&serial::text(&log)).len() >= 5).then_some(())
    });
}

/// Asserts that nothing that the guest wrote is left of one drive, and no overlay; the other drive has it.
#[track_caller]
fn check_lost(home: &TestHome, how: &str) {
    let (one, two) = (image(home, "one.raw"), image(home, "two.qcow2"));
    assert!(fs::read(&one).unwrap().iter().all(|byte| *byte == 0), "written: {how}");
    let overlays: Vec<PathBuf> =
        home.files().into_iter().filter(|file| file.to_string_lossy().contains("overlays")).collect();
    assert_eq!(overlays, Vec::<PathBuf>::new(), "{how}");
    let content = home.path("two.raw");
    let convert = Command::new("qemu-img").args(["convert", "-U", "-O", "raw"]).arg(two).arg(&content).status();
    assert!(convert.unwrap().success());
    assert_ne!(fs::read(content).unwrap()[..2], [0, 0], "{how}");
}

fn kill_qemu(home: &TestHome) {
    let pid = home.qemu_pids()[0].to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    wait::until(wait::LONG, "QEMU exits", || home.qemu_pids().is_empty().then_some(()));
}

#[test]
fn test_snapshot_drive_is_as_before_however_qemu_ends() {
    let home = TestHome::new();
    counting(&home);
    for how in ["SIGKILL", "stop", "quit"] {
        home.json(&["start", "web"]);
        wait_for_writes(&home);
        check_lost(&home, &format!("while it runs, before {how}"));

        match how {
            "SIGKILL" => kill_qemu(&home),
            "stop" => drop(home.json(&["stop", "web", "--force"])),
            _ => drop(home.json(&["qmp", "web", "quit"])),
        }

        check_lost(&home, how);
    }
}

/// The overlay has its name until QEMU is up, and until the next command if maqet is killed before.
#[test]
fn test_snapshot_drive_of_a_killed_start_is_as_before() {
    for point in ["start.marked", "launch.spawned", "start.committed"] {
        let home = TestHome::with_fault_points();
        counting(&home);
        let start = home.maqet(["start", "web"]).env("MAQET_FAULT_POINT", point);
        assert_eq!(start.run().code, None, "{point}");

        home.json(&["start", "web"]);

        wait_for_writes(&home);
        check_lost(&home, point);
        kill_qemu(&home);
        home.json(&["doctor"]);
        check_lost(&home, point);
    }
}

#[test]
fn test_snapshot_drives_share_an_image_and_are_not_saved() {
    let home = TestHome::new();
    let shared = home.path("shared.qcow2");
    assert!(
        Command::new("qemu-img").args(["create", "-qf", "qcow2"]).arg(&shared).arg("1M").status().unwrap().success()
    );
    let drives = |snapshot: bool| {
        let shared = shared.display();
        format!("storage:\n  - {{name: own, size: 1M}}\n  - {{name: base, file: {shared}, snapshot: {snapshot}}}\n")
    };
    for name in ["web", "two"] {
        home.add(&format!("{}{}", guest::paused_yaml(name), drives(true)));
        home.json(&["start", name]);
    }

    let all = home.json_error(&["snapshot", "create", "web", "all", "s", "--live"], 4);
    let one = home.json_error(&["snapshot", "create", "web", "base", "s", "--live"], 4);
    let resized = home.json_error(&["storage", "resize", "web", "base", "2M"], 4);
    let saved = home.json(&["backup", "create", "web"]);
    home.add(&format!("{}{}", guest::paused_yaml("writer"), drives(false)));
    let refused = home.json_error(&["start", "writer"], 75);
    let others = [["snapshot", "create", "writer", "base", "s"], ["storage", "resize", "writer", "base", "2M"]]
        .map(|command| home.json_error(&command, 75));
    let inspected = home.json(&["inspect", "web"])["disks"][1].clone();

    for error in &others {
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("a disk of VM `writer` is in use by VM `"), "{error}");
    }
    assert_eq!((&inspected["name"], &inspected["file"]), (&json!("base"), &json!(shared)), "{inspected}");
    for error in [&all, &one] {
        assert_eq!(error["code"], "snapshot.refused", "{error}");
        assert!(error["hints"][0].as_str().unwrap().starts_with("set `snapshot: false` for drive `base`"), "{error}");
    }
    assert!(!one["hints"].to_string().contains("maqet stop"), "{one}");
    assert_eq!(resized["code"], "vm.status-conflict", "{resized}");
    assert_eq!(saved["left_out"], json!([{"drive": "base", "reason": "snapshot"}]), "{saved}");
    assert_eq!(refused["code"], "storage.in-use", "{refused}");
    home.json(&["stop", "--all", "--force"]);
}

#[test]
fn test_snapshot_drive_by_the_printed_command_line_is_empty() {
    let home = TestHome::new();
    counting(&home);
    let line = home.maqet(["info", "web", "--command-line"]).run().ok().stdout;

    let overlay = "overlays/one.qcow2";
    let create = line.find(&format!("qemu-img create -q -f qcow2 -b {}", image(&home, "one.raw").display()));
    let created = create.map(|at| line[at..].split(" &&").next().unwrap_or_default());

    assert!(created.is_some_and(|create| create.contains(" -F raw ") && create.ends_with(overlay)), "{line}");
    assert!(line.contains(&format!("{overlay} ")), "{line}");
}

/// Also those that would be shared, or that are read-only; what was created before can be removed.
#[test]
fn test_snapshot_drive_image_is_not_changed_by_snapshots() {
    let home = TestHome::new();
    let drives = |more: &str| format!("storage:\n  - {{name: hdd, size: 1M{more}}}\n  - {{name: own, size: 1M}}\n");
    home.add(&format!("{}{}", guest::paused_yaml("web"), drives("")));
    home.json(&["snapshot", "create", "web", "all", "old"]);
    let before = fs::read(image(&home, "hdd.qcow2")).unwrap();
    let mut refused = Vec::new();
    for (option, reset) in [("snapshot", "false"), ("readonly", "false")] {
        home.json(&["apply", "web", "--set", &format!("storage.hdd.{option}=true")]);
        for arguments in [["create", "web", "hdd", "new"], ["load", "web", "hdd", "old"]] {
            let error = home.json_error(&[&["snapshot"], &arguments[..]].concat(), 4);
            assert_eq!(error["code"], "snapshot.refused", "{error}");
            refused.push(error["hints"][0].as_str().unwrap().to_owned());
        }
        home.json(&["apply", "web", "--set", &format!("storage.hdd.{option}={reset}")]);
    }
    home.json(&["apply", "web", "--set", "storage.hdd.snapshot=true"]);

    let all = home.json(&["snapshot", "create", "web", "all", "new"]);
    let check = home.json(&["snapshot", "check", "web"]);
    home.json(&["apply", "web", "--set", "storage.own.snapshot=true"]);
    let none = home.json_error(&["snapshot", "create", "web", "all", "none"], 4);

    assert_eq!(fs::read(image(&home, "hdd.qcow2")).unwrap(), before);
    assert!(refused[0].contains("`maqet apply web --set storage.hdd.snapshot=false`"), "{refused:?}");
    assert!(refused[2].contains("`maqet apply web --set storage.hdd.readonly=false`"), "{refused:?}");
    assert_eq!((&all["drives"], &all["omitted"][0]["drive"]), (&json!(["own"]), &json!("hdd")), "{all}");
    assert_eq!((&check["ready"], &check["obstacles"][0]["drive"]), (&json!(true), &json!("hdd")), "{check}");
    assert_eq!(none["hints"], json!(["set `snapshot: false` for a drive that needs snapshots: hdd, own"]), "{none}");
    home.json(&["snapshot", "rm", "web", "hdd", "old"]);
}
