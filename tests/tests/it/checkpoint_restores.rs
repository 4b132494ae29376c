//! VMs that go back to one of their checkpoints, on real QEMU.

use std::fs;
use std::path::{Path, PathBuf};

use maqet_testkit::guest::CountSector;
use maqet_testkit::{TestHome, guest, port, qemu, serial, wait};
use serde_json::{Value, json};

use crate::backups::content;
use crate::live_snapshots::{Counting, assert_intact};

/// A counting VM with the checkpoint `booted`, after which it counts on; returns the last number before it, and the first
/// that is surely after it.
fn checkpointed(home: TestHome) -> (Counting, u16, u16) {
    let vm = Counting::start(home);
    let before = vm.count(3);
    vm.home.json(&["checkpoint", "create", "web", "booted"]);
    let after = vm.count(4);
    (vm, before, after)
}

/// Returns the numbers that the guest of the current run has printed, once there are some.
fn numbers(home: &TestHome) -> Vec<u16> {
    let log = home.json(&["status", "web"])["serial_log"].as_str().unwrap().to_owned();
    let counted = || Some(CountSector::numbers(&serial::text(log.as_ref()))).filter(|numbers| numbers.len() > 3);
    let numbers = wait::until(wait::LONG, "the guest counts", counted);
    assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{numbers:?}");
    numbers
}

/// Waits until the guest of the current run has printed a number above another one.
fn count_beyond(home: &TestHome, than: u16) {
    let is_beyond = || numbers(home).last().is_some_and(|last| *last > than).then_some(());
    wait::until(wait::LONG, "the guest counts on", is_beyond);
}

fn number(home: &TestHome, image: &Path) -> u16 {
    let content = content(home, image);
    u16::from_le_bytes([content[0], content[1]])
}

/// Returns the layers of a home, by their names.
fn layers(home: &TestHome) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut all: Vec<String> = home.files().iter().map(name).filter(|name| name.contains(".layer-")).collect();
    all.sort();
    all
}

fn checkpoints(home: &TestHome) -> Vec<String> {
    let listed = home.json(&["checkpoint", "ls", "web"]);
    listed["checkpoints"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

fn directory(home: &TestHome, checkpoint: &str) -> PathBuf {
    let id = home.json(&["info", "web"])["id"].as_str().unwrap().to_owned();
    home.data().join("checkpoints").join(id).join(checkpoint)
}

/// Removes all checkpoints; the disks of the definition are those of the guest again, and have what it wrote.
#[track_caller]
fn check_nothing_left(vm: &Counting) {
    let home = &vm.home;
    home.json(&["checkpoint", "rm", "web", "--all"]);
    assert_eq!(layers(home), [] as [String; 0]);
    let left: Vec<PathBuf> =
        home.files().into_iter().filter(|path| path.starts_with(home.data().join("checkpoints"))).collect();
    assert_eq!(left, [] as [PathBuf; 0]);
    let last = *numbers(home).last().unwrap();
    home.json(&["stop", "web", "--force"]);
    assert!(number(home, &vm.image("one")) + 1 >= last);
    for drive in ["one", "two"] {
        assert_intact(&vm.image(drive));
    }
}

#[test]
fn test_restore_goes_back_and_forth() {
    let (vm, before, after) = checkpointed(TestHome::new());
    let home = &vm.home;
    let uuid = home.json(&["qmp", "web", "query-uuid"]);
    let frozen = fs::read(vm.image("one")).unwrap();

    let restored = home.json(&["checkpoint", "restore", "web", "booted"]);

    assert_eq!((&restored["name"], &restored["status"]), (&json!("web"), &json!("running")));
    assert_eq!((&restored["checkpoint"], &restored["saved_as"]), (&json!("booted"), &json!("before-booted")));
    let back = numbers(home);
    assert!(back[0] > before && back[0] < after, "{before} {after} {back:?}");
    assert_eq!(home.json(&["qmp", "web", "query-uuid"]), uuid);
    assert!(fs::read(vm.image("one")).unwrap() == frozen);
    assert_eq!(checkpoints(home), ["booted", "before-booted"]);
    // Those of the state before are those of its checkpoint.
    assert_eq!(layers(home), ["one.layer-1.qcow2", "one.layer-3.qcow2", "two.layer-1.qcow2", "two.layer-3.qcow2"]);

    // What was before is not lost, nor is what a VM that went back has written.
    let saved = number(home, &home.data().join("storage/web/one.layer-1.qcow2"));
    count_beyond(home, saved + 2);
    let restored = home.json(&["checkpoint", "restore", "web", "before-booted"]);

    assert_eq!(restored["saved_as"], "before-before-booted");
    let forth = numbers(home);
    assert!(forth[0] > after && forth[0] <= saved + 2, "{after} {saved} {forth:?}");
    home.json(&["checkpoint", "restore", "web", "before-before-booted", "--discard-current"]);
    let again = numbers(home);
    assert!(again[0] > saved + 2, "{back:?} {saved} {again:?}");
    // Checkpoints of a VM that went back are as any other.
    home.json(&["checkpoint", "create", "web", "later"]);
    let forked = home.json(&["fork", "web@later", "--name", "copy"]);
    assert_eq!(forked["forks"][0]["status"], "running");
    home.json(&["rm", "copy", "--force", "--delete-storage"]);
    home.json(&["storage", "trash", "empty"]);
    let events = home.json(&["events", "--since", "10m"]);
    assert!(events.to_string().contains("checkpoint.restored"), "{events}");
    check_nothing_left(&vm);
}

/// An undo saves what it replaces, so that it can be taken back as well.
#[test]
fn test_restore_is_undone_and_made_again() {
    let (vm, before, after) = checkpointed(TestHome::new());
    let home = &vm.home;
    home.json(&["checkpoint", "restore", "web", "booted"]);
    let back = numbers(home);
    let saved = number(home, &home.data().join("storage/web/one.layer-1.qcow2"));
    count_beyond(home, saved + 2);

    home.json(&["undo", "--vm", "web"]);
    let undone = numbers(home);
    home.json(&["redo", "--vm", "web"]);
    let redone = numbers(home);

    assert!(back[0] > before && back[0] < after, "{before} {after} {back:?}");
    assert!(undone[0] > after && undone[0] <= saved + 2, "{after} {saved} {undone:?}");
    assert!(redone[0] > saved + 2, "{saved} {redone:?}");
    // What was not saved is not brought back.
    let discarding = home.maqet(["checkpoint", "restore", "web", "booted", "--discard-current"]).run().ok();
    assert!(discarding.stderr.contains("cannot be undone: the state before is not kept"), "{discarding}");
    let error = home.json_error(&["undo", "--vm", "web"], 4);
    assert_eq!(error["code"], "history.undo-unsupported", "{error}");
    check_nothing_left(&vm);
}

/// The images of a later checkpoint are on another branch then, which is removed with it.
#[test]
fn test_restore_keeps_the_disks_of_later_checkpoints() {
    let (vm, _, _) = checkpointed(TestHome::new());
    let home = &vm.home;
    home.json(&["checkpoint", "create", "web", "later"]);
    let later = vm.count(4);

    home.json(&["checkpoint", "restore", "web", "booted", "--discard-current"]);

    let back = numbers(home);
    assert!(back[0] < later, "{back:?} {later}");
    // The first layer is the disk of `later`, and the second one was that of the guest.
    assert_eq!(layers(home), ["one.layer-1.qcow2", "one.layer-3.qcow2", "two.layer-1.qcow2", "two.layer-3.qcow2"]);
    assert_eq!(home.json(&["storage", "orphaned"]), json!([]));
    let removed = home.json(&["checkpoint", "rm", "web", "booted"]);
    // The disk of `later` builds on the image below.
    assert_eq!(removed["merged"], json!([]));
    home.json(&["checkpoint", "restore", "web", "later", "--discard-current"]);
    let forth = numbers(home);
    assert!(forth[0] > *back.first().unwrap(), "{back:?} {forth:?}");
    assert_eq!(layers(home), ["one.layer-1.qcow2", "one.layer-4.qcow2", "two.layer-1.qcow2", "two.layer-4.qcow2"]);
    check_nothing_left(&vm);
}

#[test]
fn test_restore_of_stopped_vm_discards_only_on_request() {
    let (vm, before, after) = checkpointed(TestHome::new());
    let home = &vm.home;
    home.json(&["stop", "web", "--force"]);

    let error = home.json_error(&["checkpoint", "restore", "web", "booted"], 4);

    assert_eq!(error["code"], "checkpoint.present-conflict", "{error}");
    assert_eq!(layers(home), ["one.layer-1.qcow2", "two.layer-1.qcow2"]);
    assert_eq!(home.json(&["status", "web"])["status"], "stopped");
    let top = home.data().join("storage/web/one.layer-1.qcow2");
    assert!(number(home, &top) >= after);
    // What is inside a layer would be lost, too.
    home.json(&["snapshot", "create", "web", "one", "s"]);
    let error = home.json_error(&["checkpoint", "restore", "web", "booted", "--discard-current"], 4);
    assert_eq!(error["code"], "checkpoint.snapshots-conflict", "{error}");
    home.json(&["snapshot", "rm", "web", "one", "s"]);
    assert!(number(home, &top) >= after);

    let restored = home.json(&["checkpoint", "restore", "web", "booted", "--discard-current", "--paused"]);

    assert_eq!((&restored["status"], restored.get("saved_as")), (&json!("paused"), None));
    let removed = restored["removed_layers"].as_array().unwrap();
    assert!(removed.contains(&json!(top.to_str().unwrap())), "{removed:?}");
    assert!(!top.exists());
    let log = restored["serial_log"].as_str().unwrap();
    assert_eq!(CountSector::numbers(&serial::text(log.as_ref())), [] as [u16; 0]);
    home.json(&["resume", "web"]);
    let back = numbers(home);
    assert!(back[0] > before && back[0] < after, "{before} {after} {back:?}");
    check_nothing_left(&vm);
}

/// A change of a manifest, and the code and a part of the error that follows.
type Case<'a> = (&'a dyn Fn(&mut Value), &'static str, &'static str);

/// Nothing has been touched when a restore is refused.
#[test]
fn test_refused_restore_touches_nothing() {
    let (vm, _, _) = checkpointed(TestHome::new());
    let home = &vm.home;
    let manifest = directory(home, "booted").join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    let (pid, before) = (home.qemu_pids(), layers(home));
    let other = home.path("other.qcow2");
    fs::copy(vm.image("one"), &other).unwrap();
    let arguments = |manifest: &mut Value, from: &str, to: &str| {
        let all = manifest["qemu"]["arguments"].as_array_mut().unwrap();
        *all.iter_mut().find(|argument| argument.as_str() == Some(from)).unwrap() = to.into();
    };
    let check = |error: &Value, code: &str, part: &str| {
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{part}: {error}");
        assert_eq!((home.qemu_pids(), layers(home)), (pid.clone(), before.clone()), "{part}");
        assert_eq!(checkpoints(home).into_iter().filter(|name| name != "booted").count(), 0, "{part}");
        vm.count(1);
    };

    let refused = "checkpoint.restore-refused";
    let cases: [Case<'_>; 12] = [
        (&|manifest| manifest["qemu"]["version"] = "6.0.0".into(), refused, "6.0.0"),
        (&|manifest| manifest["qemu"]["package"] = "another".into(), refused, "another"),
        (&|manifest| arguments(manifest, "1", "2"), refused, "-smp 2"),
        (&|manifest| arguments(manifest, "16M", "32M"), refused, "-m 32M"),
        (&|manifest| arguments(manifest, "tcg", "kvm"), refused, "-accel kvm"),
        (
            &|manifest| {
                let all = manifest["qemu"]["arguments"].as_array_mut().unwrap();
                all.extend(["-cpu", "qemu64", "-device", "usb-ehci,id=more"].map(Value::from));
            },
            refused,
            "-cpu qemu64",
        ),
        (&|manifest| manifest["qemu"]["host_cpu_flags"] = json!(["none-such"]), refused, "lacks `none-such`"),
        (&|manifest| manifest["disks"][0]["virtual_bytes"] = 7.into(), refused, "`one`"),
        (&|manifest| manifest["disks"][1]["format"] = "vmdk".into(), refused, "`two`"),
        (&|manifest| manifest["disks"][0]["file"] = other.to_str().unwrap().into(), refused, "does not build on"),
        (&|manifest| manifest["added_devices"] = json!(["d1"]), refused, "d1"),
        (&|manifest| manifest["state"]["crc32"] = 1.into(), "checkpoint.corrupt", "state"),
    ];
    for (change, code, part) in cases {
        let mut changed = whole.clone();
        change(&mut changed);
        fs::write(&manifest, changed.to_string()).unwrap();
        for arguments in [
            &["checkpoint", "restore", "web", "booted"][..],
            &["checkpoint", "restore", "web", "booted", "--discard-current"],
        ] {
            let output = home.maqet(["--format", "json"]).args(arguments).run();
            check(&output.json_error()["error"], code, part);
        }
    }
    fs::write(&manifest, text).unwrap();
    check(&home.json_error(&["checkpoint", "restore", "web", "other"], 3), "checkpoint.not-found", "no checkpoint");

    // The present state cannot be saved.
    let capability = |state: bool| json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": state }] });
    home.json(&["qmp", "run", "web", "migrate-set-capabilities", "--json", &capability(true).to_string()]);
    let error = home.json_error(&["checkpoint", "restore", "web", "booted"], 4);
    check(&error, "checkpoint.unsupported", "`x-ignore-shared` is on");
    home.json(&["checkpoint", "restore", "web", "booted", "--discard-current"]);
    check_nothing_left(&vm);
}

/// What was changed in the definition since takes effect at the next start.
#[test]
fn test_restore_leaves_the_definition_and_the_ports() {
    let home = TestHome::new();
    let port = port::free();
    home.add(&(guest::paused_yaml("web") + &format!("network: {{name: lan, forward: ['{port}:22']}}\n")));
    home.json(&["start", "web"]);
    home.json(&["resume", "web"]);
    home.json(&["checkpoint", "create", "web", "booted"]);
    let memory = || home.json(&["qmp", "web", "query-memory-size-summary"])["base-memory"].clone();
    let before = memory();
    home.json(&["apply", "web", "--memory", "40M"]);

    let restored = home.json(&["checkpoint", "restore", "web", "booted"]);

    assert!(restored["forwards"][0].to_string().contains(&port.to_string()), "{restored}");
    assert_eq!(memory(), before);
    home.json(&["restart", "web", "--force"]);
    assert_eq!(memory(), json!(40 << 20));
}

#[test]
fn test_restore_has_the_uefi_variables_of_the_checkpoint() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "machine: q35\nfirmware: uefi\n"));
    home.json(&["start", "web"]);
    home.json(&["resume", "web"]);
    home.json(&["checkpoint", "create", "web", "booted"]);
    home.json(&["stop", "web", "--force"]);
    let variables = home.data().join("storage/web/uefi-vars.qcow2");
    let saved = fs::read(directory(&home, "booted").join("uefi-vars")).unwrap();
    let written = std::process::Command::new("qemu-io").args(["-c", "write -P 7 0 64k"]).arg(&variables).output();
    assert!(written.unwrap().status.success());
    assert!(fs::read(&variables).unwrap() != saved);

    home.json(&["checkpoint", "restore", "web", "booted", "--discard-current", "--paused"]);

    assert!(fs::read(&variables).unwrap() == saved);
    let names: Vec<String> = home.files().iter().map(|path| path.to_string_lossy().into_owned()).collect();
    assert!(!names.iter().any(|name| name.contains("before-restore") || name.contains("restored")), "{names:?}");
}

/// QEMU has ended by then: the disks are as they were, and the state before is in its checkpoint.
#[test]
fn test_restore_that_qemu_refuses_keeps_the_state_before() {
    let (vm, _, after) = checkpointed(TestHome::new());
    let home = &vm.home;
    let manifest = directory(home, "booted").join("manifest.json");
    let mut changed: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    changed["qemu"]["machine_type"] = "pc-i440fx-2.12".into();
    fs::write(&manifest, changed.to_string()).unwrap();

    let error = home.json_error(&["checkpoint", "restore", "web", "booted"], 1);

    assert_eq!(error["code"], "checkpoint.restore-failed", "{error}");
    assert!(error["hints"].to_string().contains("restore web before-booted --discard-current"), "{error}");
    assert_eq!(home.json(&["status", "web"])["status"], "stopped");
    assert_eq!(home.qemu_pids(), [] as [i32; 0]);
    assert_eq!(layers(home), ["one.layer-1.qcow2", "one.layer-2.qcow2", "two.layer-1.qcow2", "two.layer-2.qcow2"]);
    home.json(&["checkpoint", "restore", "web", "before-booted", "--discard-current"]);
    assert!(numbers(home)[0] > after);
    check_nothing_left(&vm);
}

/// Until the new QEMU has loaded the state, a killed restore is undone, and finished from then on.
#[test]
fn test_killed_restore_is_undone_or_finished() {
    let (vm, before, _) = checkpointed(TestHome::with_fault_points());
    let home = &vm.home;
    let mut last = 0;
    for (point, status, is_back) in qemu::ours([
        ("checkpoint.restore.locked", "running", false),
        // The first time, the present state is being saved.
        ("checkpoint.restore.marked", "running", false),
        ("checkpoint.saved", "running", false),
        ("checkpoint.published", "running", false),
        ("checkpoint.restore.marked:2", "running", false),
        ("checkpoint.restore-prepared", "running", false),
        ("stop.marked", "running", false),
        ("checkpoint.restore-ended", "stopped", false),
        ("checkpoint.restore-replaced", "stopped", false),
        ("start.marked", "stopped", false),
        ("launch.spawned", "stopped", false),
        ("checkpoint.loaded", "stopped", false),
        ("start.committed", "stopped", false),
        ("checkpoint.restore-recorded", "running", true),
        ("checkpoint.restore-resumed", "running", true),
        ("checkpoint.restore.before-commit", "running", true),
        ("checkpoint.restore.committed", "running", true),
    ]) {
        if home.json(&["status", "web"])["status"] != "running" {
            // The state before is that of the checkpoint that was taken.
            let saved = checkpoints(home).pop().unwrap();
            assert!(saved.starts_with("before-booted"), "{point}: {saved}");
            home.json(&["checkpoint", "restore", "web", &saved, "--discard-current"]);
            assert!(numbers(home)[0] > last, "{point}");
        }
        last = *numbers(home).last().unwrap();
        let restore = home.maqet(["checkpoint", "restore", "web", "booted"]).env("MAQET_FAULT_POINT", point).run();
        assert_eq!(restore.code, None, "{point}: {restore}");

        let diagnosis = home.json(&["doctor", "--fix"]);

        assert_eq!(diagnosis["healthy"], true, "{point}: {diagnosis}");
        assert_eq!(home.json(&["status", "web"])["status"], status, "{point}");
        assert_eq!(home.qemu_pids().len(), usize::from(status == "running"), "{point}");
        if status == "running" {
            let now = numbers(home);
            let is_old = *now.last().unwrap() >= last;
            assert!(is_back != is_old || (is_back && now[0] > before), "{point}: {last} {now:?}");
        }
    }
    check_nothing_left(&vm);
}
