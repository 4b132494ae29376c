//! Checkpoints of running VMs, and the layers of their drives, on real QEMU.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_testkit::{TestHome, guest, process, qemu, wait};
use serde_json::{Value, json};

use crate::backups::content;
use crate::live_snapshots::{Counting, assert_intact};

fn counting() -> Counting {
    let vm = Counting::start(TestHome::new());
    vm.count(3);
    vm
}

/// Returns a VM whose memory QEMU cannot save while the guest runs.
fn counting_in_shared_memory() -> Counting {
    let home = TestHome::new();
    let sector = guest::CountSector::write(&home);
    let memory = "  - {object: 'memory-backend-memfd,id=m,size=300M,share=on'}\n  - {machine: {memory-backend: m}}\n";
    home.add(&(guest::CountSector::yaml("web", &sector, &["one"]).replace("16M\nnetwork", "300M\nnetwork") + memory));
    let vm = Counting::start_added(home);
    vm.count(2);
    vm
}

fn checkpoint_directory(home: &TestHome, vm: &str) -> PathBuf {
    let id = home.json(&["info", vm])["id"].as_str().unwrap().to_owned();
    home.data().join("checkpoints").join(id)
}

/// Returns the number that the guest wrote to an image with all that it builds on.
fn number(home: &TestHome, image: &Path) -> u16 {
    let content = content(home, image);
    u16::from_le_bytes([content[0], content[1]])
}

/// Returns the layers of a home.
fn layers(home: &TestHome) -> Vec<PathBuf> {
    let is_layer = |path: &PathBuf| path.to_string_lossy().contains(".layer-");
    home.files().into_iter().filter(is_layer).collect()
}

/// Returns the files below the directory of the checkpoints.
fn files(home: &TestHome) -> Vec<PathBuf> {
    let checkpoints = home.data().join("checkpoints");
    home.files().into_iter().filter(|path| path.starts_with(&checkpoints)).collect()
}

/// Returns the images that the running QEMU has for the guest to write to.
fn written_images(home: &TestHome) -> Vec<String> {
    let blocks = home.json(&["qmp", "web", "query-block"]);
    let inserted = blocks.as_array().unwrap().iter().filter(|block| block["inserted"]["ro"] == false);
    inserted.map(|block| block["inserted"]["file"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_images_intact(vm: &Counting) {
    for drive in ["one", "two"] {
        assert_intact(&vm.image(drive));
    }
}

#[track_caller]
fn check_nothing_left(home: &TestHome) {
    assert_eq!(layers(home), [] as [PathBuf; 0]);
    assert_eq!(files(home), [] as [PathBuf; 0]);
}

#[test]
fn test_checkpoint_freezes_the_disks_of_one_moment() {
    let vm = counting();
    let home = &vm.home;

    let created = home.json(&["checkpoint", "create", "web", "booted", "--description", "it counts"]);
    let later = vm.count(5);

    let checkpoint = &created["checkpoint"];
    assert_eq!((&checkpoint["name"], &checkpoint["description"]), (&json!("booted"), &json!("it counts")));
    let directory = checkpoint_directory(home, "web").join("booted");
    assert_eq!(checkpoint["directory"], directory.to_str().unwrap());
    for file in ["manifest.json", "ram", "state"] {
        assert!(directory.join(file).is_file(), "{file} is missing");
    }
    assert!(!directory.join("stream").exists());
    let frozen = ["one", "two"].map(|drive| number(home, &vm.image(drive)));
    assert!(frozen[0] - frozen[1] <= 1 && frozen[1] > 0 && frozen[0] < later, "{frozen:?}, later {later}");
    assert_eq!(layers(home).len(), 2);
    let info = home.json(&["checkpoint", "info", "web", "booted"]);
    assert_eq!(info["disks"][0]["file"], vm.image("one").to_str().unwrap());
    assert_eq!(home.json(&["checkpoint", "ls", "web"])["checkpoints"].as_array().unwrap().len(), 1);
    assert_eq!(home.json(&["status", "web"])["status"], "running");
    let capabilities = home.json(&["qmp", "web", "query-migrate-capabilities"]);
    let is_on = |one: &&Value| one["capability"] == "background-snapshot" && one["state"] == true;
    assert!(!capabilities.as_array().unwrap().iter().any(|one| is_on(&one)), "{capabilities}");

    // The next run has the layers, too.
    home.json(&["stop", "web", "--force"]);
    let last = layers(home).iter().map(|layer| number(home, layer)).max().unwrap();
    assert!(last >= later, "{last} {later}");
    let listed = home.json(&["storage", "ls", "web"]);
    assert!(listed.to_string().contains(".layer-1.qcow2"), "{listed}");

    // Without checkpoints, the disks of the definition are those of the guest again.
    let removed = home.json(&["checkpoint", "rm", "web", "booted"]);
    assert_eq!(removed["merged"].as_array().unwrap().len(), 2);
    assert!(number(home, &vm.image("one")) >= last - 1);
    assert_images_intact(&vm);
    check_nothing_left(home);
}

#[test]
fn test_checkpoints_of_running_vm_are_merged_from_the_newest_down() {
    let vm = counting();
    let home = &vm.home;
    home.json(&["checkpoint", "create", "web", "first"]);
    let first = vm.count(3);
    home.json(&["checkpoint", "create", "web", "second"]);
    vm.count(3);

    let removed = home.json(&["checkpoint", "rm", "web", "first"]);

    // The image below the second one is what that is of.
    assert_eq!(removed["merged"], json!([]));
    assert_eq!(removed["kept"].as_array().unwrap().len(), 4);
    let removed = home.json(&["checkpoint", "rm", "web", "--all"]);
    assert_eq!((removed["merged"].as_array().unwrap().len(), &removed["kept"]), (4, &json!([])));
    let now = vm.count(3);
    assert_eq!(written_images(home), ["one", "two"].map(|drive| vm.image(drive).to_str().unwrap().to_owned()));
    check_nothing_left(home);
    home.json(&["stop", "web", "--force"]);
    let disk = number(home, &vm.image("one"));
    assert!(disk >= now && disk > first, "{disk} {now} {first}");
    assert_images_intact(&vm);
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_layers_are_saved_backed_up_and_resized() {
    let vm = counting();
    let home = &vm.home;
    home.json(&["checkpoint", "create", "web", "c"]);

    let snapshot = home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
    let backup = home.json(&["backup", "create", "web"]);
    let resized = home.json(&["storage", "resize", "web", "one", "32M"]);

    assert_eq!(snapshot["drives"], json!(["one", "two"]));
    let disk = &backup["backup"]["drives"][0];
    assert!(disk["disk"].as_str().is_none_or(|disk| disk.contains(".layer-1")), "{disk}");
    assert_eq!(resized["live"], true);
    vm.count(2);
    // A snapshot inside a layer would be lost.
    let error = home.json_error(&["checkpoint", "rm", "web", "c"], 4);
    assert_eq!(error["code"], "checkpoint.snapshots-conflict", "{error}");
    assert_eq!(layers(home).len(), 2);
    home.json(&["snapshot", "rm", "web", "all", "s", "--live"]);
    home.json(&["checkpoint", "rm", "web", "c"]);
    vm.count(2);
    check_nothing_left(home);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_drives_with_layers_keep_their_images() {
    let vm = counting();
    let home = &vm.home;
    home.json(&["backup", "create", "web"]);
    home.json(&["checkpoint", "create", "web", "c"]);
    home.json(&["stop", "web", "--force"]);
    let before = layers(home);

    for arguments in [
        &["storage", "convert", "web", "one", "raw"][..],
        &["storage", "compact", "web", "one"],
        &["snapshot", "load", "web", "one", "s"],
        &["backup", "restore", "web", "latest"],
        &["apply", "web", "--set", "storage.one.type=raw"],
        &["apply", "web", "--set", "storage.one.file=/d/other.qcow2"],
    ] {
        let error = home.json_error(arguments, 4);
        assert_eq!(error["code"], "checkpoint.drive-in-use", "{arguments:?}: {error}");
        assert!(error["message"].as_str().unwrap().contains("checkpoint `c`"), "{error}");
    }
    let error = home.json_error(&["rm", "web", "--delete-storage"], 4);
    assert_eq!(error["code"], "checkpoint.vm-in-use");
    assert_eq!(layers(home), before);
    home.json(&["apply", "web", "--set", "memory=24M"]);
    home.json(&["checkpoint", "rm", "web", "--all"]);
    home.json(&["rm", "web", "--delete-storage"]);
    check_nothing_left(home);
}

/// Each refusal comes before anything is changed.
#[test]
fn test_refused_checkpoints_touch_nothing() {
    let vm = counting();
    let home = &vm.home;
    home.write("stick.raw", vec![0; 1 << 20]);
    let refuse = |code: &str, reason: &str| {
        let error = home.json_error(&["checkpoint", "create", "web", "c"], 4);
        assert_eq!(error["code"], code, "{error}");
        assert!(error["message"].as_str().unwrap().contains(reason), "{error}");
        check_nothing_left(home);
    };

    let capability = |state: bool| json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": state }] });
    home.json(&["qmp", "run", "web", "migrate-set-capabilities", "--json", &capability(true).to_string()]);
    refuse("checkpoint.unsupported", "`x-ignore-shared` is on");
    home.json(&["qmp", "run", "web", "migrate-set-capabilities", "--json", &capability(false).to_string()]);
    home.json(&["qmp", "device-add", "web", "usb-ehci", "--id", "usb"]);
    home.json(&["qmp", "device-add", "web", "virtio-blk-pci", "--id", "stick", "--file", "stick.raw"]);
    refuse("checkpoint.unsupported", "is writable, and not defined under `storage`");
    vm.count(2);
    assert_eq!(home.json(&["status", "web"])["status"], "running");
    home.json(&["stop", "web", "--force"]);
    refuse("checkpoint.status-conflict", "it is stopped");

    home.json(&["apply", "web", "--set", "storage.two.snapshot=true"]);
    home.json(&["start", "web"]);
    refuse("checkpoint.unsupported", "is lost at the end of the run");
    home.json(&["stop", "web", "--force"]);
    home.json(&["apply", "web", "--set", "storage.two.snapshot=false", "--set", "storage.one.interface=nvme"]);
    home.json(&["start", "web"]);
    refuse("checkpoint.unsupported", "QEMU reports");
    let checked = home.maqet(["checkpoint", "check", "web"]).run();
    assert_eq!(checked.code, Some(1));
    home.json(&["stop", "web", "--force"]);

    home.add(&guest::paused_yaml("still"));
    home.json(&["start", "still"]);
    let error = home.json_error(&["checkpoint", "create", "still", "c"], 4);
    assert!(error["message"].as_str().unwrap().contains("has not run yet"), "{error}");
    home.json(&["stop", "still", "--force"]);
    check_nothing_left(home);
}

#[test]
fn test_checkpoint_of_shared_memory_pauses_the_guest() {
    let vm = counting_in_shared_memory();
    let home = &vm.home;

    let error = home.json_error(&["checkpoint", "create", "web", "c", "--max-pause", "1ms"], 4);
    check_nothing_left(home);
    let created = home.json(&["checkpoint", "create", "web", "c"]);

    assert_eq!(error["code"], "checkpoint.pause-refused", "{error}");
    assert_eq!(created["checkpoint"]["method"], "stop-and-save", "{created}");
    assert!(created["reason"].as_str().unwrap().contains("shared"), "{created}");
    vm.count(2);
    assert_eq!(home.json_error(&["checkpoint", "create", "web", "c"], 4)["code"], "checkpoint.exists");
    home.json(&["checkpoint", "create", "web", "again"]);
    vm.count(2);
    home.json(&["checkpoint", "rm", "web", "--all"]);
    home.json(&["stop", "web", "--force"]);
    check_nothing_left(home);
}

#[test]
fn test_paused_guest_stays_paused_over_a_checkpoint() {
    let vm = counting();
    let home = &vm.home;
    home.json(&["pause", "web"]);

    home.json(&["checkpoint", "create", "web", "c"]);

    assert_eq!(home.json(&["status", "web"])["status"], "paused");
    home.json(&["resume", "web"]);
    vm.count(2);
    home.json(&["checkpoint", "rm", "web", "c"]);
    assert_eq!(home.json(&["status", "web"])["status"], "running");
    vm.count(2);
    home.json(&["stop", "web", "--force"]);
    check_nothing_left(home);
}

/// QEMU cannot merge images that it gave away when it saved a paused guest.
#[test]
fn test_rm_after_a_paused_guest_was_saved_changes_nothing() {
    let vm = counting_in_shared_memory();
    let home = &vm.home;
    home.json(&["pause", "web"]);
    let created = home.json(&["checkpoint", "create", "web", "c"]);
    assert_eq!(created["checkpoint"]["method"], "stop-and-save", "{created}");

    let error = home.json_error(&["checkpoint", "rm", "web", "c"], 4);

    assert_eq!(error["code"], "checkpoint.layer-conflict", "{error}");
    assert_eq!(home.json(&["checkpoint", "ls", "web"])["checkpoints"].as_array().unwrap().len(), 1);
    home.json(&["resume", "web"]);
    vm.count(2);
    home.json(&["checkpoint", "rm", "web", "c"]);
    vm.count(2);
    home.json(&["stop", "web", "--force"]);
    check_nothing_left(home);
}

#[test]
fn test_canceled_checkpoint_leaves_nothing() {
    let vm = counting();
    let home = &vm.home;

    for _ in 0..3 {
        let error = home.json_error(&["checkpoint", "create", "web", "c", "--timeout", "1ms"], 124);
        assert_eq!(error["code"], "operation.timed-out", "{error}");
        vm.count(2);
        check_nothing_left(home);
    }
    assert_eq!(home.json_error(&["checkpoint", "cancel", "web"], 4)["code"], "checkpoint.cancel-conflict");
    home.json(&["checkpoint", "create", "web", "c"]);
    vm.count(2);
    assert_eq!(written_images(home).len(), 2);
    home.json(&["stop", "web", "--force"]);
}

/// The process that takes a checkpoint is killed at each step: the next command finishes it, or leaves nothing of it.
#[test]
fn test_killed_checkpoint_is_finished_or_undone() {
    let vm = Counting::start(TestHome::with_fault_points());
    let home = &vm.home;
    vm.count(2);
    let points = [
        ("checkpoint.create.marked", false),
        ("checkpoint.prepared", false),
        ("checkpoint.frozen", false),
        ("checkpoint.saving", true),
        ("checkpoint.resumed", true),
        ("checkpoint.saved", true),
        ("checkpoint.sorted", true),
        ("checkpoint.published", true),
        ("checkpoint.create.before-commit", true),
    ];

    for (point, is_finished) in qemu::ours(points) {
        let create = home.maqet(["checkpoint", "create", "web", "c"]).env("MAQET_FAULT_POINT", point).run();
        assert_eq!(create.code, None, "{point}: {create}");
        home.json(&["doctor", "--fix"]);

        let listed = home.json(&["checkpoint", "ls", "web"]);
        assert_eq!(listed["checkpoints"].as_array().unwrap().len(), usize::from(is_finished), "{point}: {listed}");
        assert_eq!(home.json(&["status", "web"])["status"], "running", "{point}");
        vm.count(2);
        if is_finished {
            assert_eq!(layers(home).len(), 2, "{point}");
            home.json(&["checkpoint", "rm", "web", "c"]);
            vm.count(1);
        }
        check_nothing_left(home);
    }
    home.json(&["stop", "web", "--force"]);
    assert_images_intact(&vm);
}

#[test]
fn test_cancel_of_a_killed_checkpoint_leaves_nothing() {
    let vm = Counting::start(TestHome::with_fault_points());
    let home = &vm.home;
    vm.count(2);
    let create = home.maqet(["checkpoint", "create", "web", "c"]).env("MAQET_FAULT_POINT", "checkpoint.resumed").run();
    assert_eq!(create.code, None, "{create}");

    let canceled = home.json(&["checkpoint", "cancel", "web"]);

    assert_eq!((&canceled["checkpoint"], &canceled["canceled"]), (&json!("c"), &json!(true)));
    vm.count(2);
    check_nothing_left(home);
    home.json(&["stop", "web", "--force"]);
}

/// The process that takes a checkpoint gives it up although QEMU writes already.
#[test]
fn test_cancel_of_a_checkpoint_under_way_leaves_nothing() {
    let vm = Counting::start(TestHome::with_fault_points());
    let home = &vm.home;
    vm.count(2);
    let create = home.maqet(["--format", "json", "checkpoint", "create", "web", "c"]);
    let create = create.env("MAQET_FAULT_POINT", "checkpoint.resumed:stop").spawn();
    process::until_suspended(create.pid());

    let cancel = home.maqet(["--format", "json", "checkpoint", "cancel", "web"]).spawn();
    let is_noted = || files(home).iter().any(|file| file.ends_with("canceled")).then_some(());
    wait::until(wait::LONG, "the request is noted", is_noted);
    process::resume(create.pid());
    let (create, cancel) = (create.wait(), cancel.wait());

    assert_eq!(create.json_error()["error"]["code"], "operation.interrupted", "{create}");
    assert_eq!(cancel.ok().json_value()["canceled"], true);
    vm.count(2);
    check_nothing_left(home);
    home.json(&["stop", "web", "--force"]);
}

/// QEMU 7.2 would leave its guest hanging if it could not write everything.
#[test]
fn test_space_is_reserved_where_a_guest_would_hang() {
    let vm = Counting::start(TestHome::with_fault_points());
    let home = &vm.home;
    vm.count(2);
    let memory = home.json(&["checkpoint", "check", "web"])["memory_bytes"].as_u64().unwrap();
    let point = "checkpoint.prepared";
    let create = home.maqet(["checkpoint", "create", "web", "c"]).env("MAQET_FAULT_POINT", point).run();
    assert_eq!(create.code, None, "{create}");

    let stream = checkpoint_directory(home, "web").join("c.partial/stream").metadata().unwrap();

    assert_eq!(stream.len(), 0);
    let is_reserved = stream.blocks() * 512 >= memory;
    assert_eq!(is_reserved, crate::versions::version().major < 10, "{} {memory}", stream.blocks());
    home.json(&["doctor", "--fix"]);
    check_nothing_left(home);
    vm.count(1);
}

#[test]
fn test_killed_removal_is_finished() {
    let vm = Counting::start(TestHome::with_fault_points());
    let home = &vm.home;
    let points = [
        "checkpoint.merge-marked",
        "checkpoint.removed",
        "checkpoint.layer-committed",
        "checkpoint.pivoted",
        "checkpoint.layer-merged",
        "checkpoint.layer-merged:2",
        "checkpoint.rm.before-commit",
    ];

    for point in qemu::ours(points) {
        vm.count(2);
        home.json(&["checkpoint", "create", "web", "c"]);
        let before = vm.count(2);
        let rm = home.maqet(["checkpoint", "rm", "web", "c"]).env("MAQET_FAULT_POINT", point).run();
        assert_eq!(rm.code, None, "{point}: {rm}");
        home.json(&["doctor", "--fix"]);

        assert!(vm.count(2) > before, "{point}");
        check_nothing_left(home);
        assert_eq!(written_images(home), ["one", "two"].map(|drive| vm.image(drive).to_str().unwrap().to_owned()));
    }
    home.json(&["stop", "web", "--force"]);
    assert_images_intact(&vm);
}

/// QEMU is killed, too: what the guest wrote to a layer is not lost.
#[test]
fn test_killed_checkpoint_and_qemu_lose_no_writes() {
    for point in ["checkpoint.frozen", "checkpoint.resumed"] {
        let vm = Counting::start(TestHome::with_fault_points());
        let home = &vm.home;
        vm.count(2);
        let create = home.maqet(["checkpoint", "create", "web", "c"]).env("MAQET_FAULT_POINT", point).run();
        assert_eq!(create.code, None, "{point}: {create}");
        let before = if point == "checkpoint.resumed" { vm.count(3) } else { 0 };
        let pid = home.qemu_pids()[0].to_string();
        Command::new("kill").args(["-9", &pid]).status().unwrap();
        wait::until(wait::LONG, "QEMU ends", || home.qemu_pids().is_empty().then_some(()));

        home.json(&["doctor", "--fix"]);

        check_nothing_left(home);
        assert!(number(home, &vm.image("one")) >= before.saturating_sub(1), "{point}");
        assert_images_intact(&vm);
    }
}
