//! Snapshots of running VMs: their memory and disks, on real QEMU.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use maqet_testkit::guest::{CountSector, GuestAct};
use maqet_testkit::{Finished, TestHome, guest, process, serial, variable, wait};
use rustix::process::{Pid, setpriority_process};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_mins(1);

/// A VM whose guest counts, and writes each number to its drives `one` and `two` before it prints it.
pub(super) struct Counting {
    pub(super) home: TestHome,
    log: PathBuf,
}

impl Counting {
    pub(super) fn start(home: TestHome) -> Self {
        home.add(&CountSector::yaml("web", &CountSector::write(&home), &["one", "two"]));
        Self::start_added(home)
    }

    /// Starts such a VM that was added.
    pub(super) fn start_added(home: TestHome) -> Self {
        let started = home.json(&["start", "web"]);
        Self { log: started["serial_log"].as_str().unwrap().into(), home }
    }

    /// Returns the numbers of the guest so far.
    fn numbers(&self) -> Vec<u16> {
        CountSector::numbers(&serial::text(&self.log))
    }

    /// Waits until the guest has printed `more` numbers from now on; returns the last.
    pub(super) fn count(&self, more: usize) -> u16 {
        let now = self.numbers().len();
        let numbers = || Some(self.numbers()).filter(|numbers| numbers.len() >= now + more);
        *wait::until(MINUTE, "the guest counts", numbers).last().unwrap()
    }

    pub(super) fn image(&self, drive: &str) -> PathBuf {
        self.home.data().join(format!("storage/web/{drive}.qcow2"))
    }
}

/// Returns the number that the guest wrote to an image, or to one of its snapshots.
fn written(image: &Path, snapshot: Option<&str>) -> u16 {
    let raw = image.with_extension(snapshot.unwrap_or("now"));
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-U", "-O", "raw"]);
    if let Some(snapshot) = snapshot {
        convert.args(["-l", &format!("snapshot.name={snapshot}")]);
    }
    let converted = convert.arg(image).arg(&raw).output().unwrap();
    assert!(converted.status.success(), "{converted:?}");
    let content = fs::read(&raw).unwrap();
    fs::remove_file(raw).unwrap();
    u16::from_le_bytes([content[0], content[1]])
}

pub(super) fn assert_intact(image: &Path) {
    assert_intact_after(image, &"no command");
}

fn qemu_img_check(image: &Path, options: &[&str]) -> Output {
    Command::new("qemu-img").args(["check", "-q"]).args(options).arg(image).output().unwrap()
}

fn assert_intact_after(image: &Path, command: &dyn Display) {
    let checked = qemu_img_check(image, &[]);
    assert!(checked.status.success(), "{}: {checked:?}\n{command}", image.display());
}

/// Returns the kinds of the snapshots of a VM by drive and name.
fn kinds(home: &TestHome, vm: &str) -> BTreeMap<(String, String), String> {
    let listed = home.json(&["snapshot", "ls", vm]);
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().to_owned();
    let listed = listed.as_array().unwrap().iter();
    listed.map(|one| ((text(one, "drive"), text(one, "name")), text(one, "kind"))).collect()
}

pub(super) fn names(home: &TestHome, vm: &str) -> Vec<String> {
    kinds(home, vm).into_keys().map(|(_, name)| name).collect()
}

#[test]
fn test_live_set_goes_on_from_the_saved_number() {
    let vm = Counting::start(TestHome::new());
    vm.count(3);

    let created = vm.home.json(&["snapshot", "create", "web", "all", "one moment", "--live"]);
    let saved_by = vm.count(1);
    let later = vm.count(6);
    let loaded = vm.home.json(&["snapshot", "load", "web", "all", "one moment", "--live"]);

    assert_eq!((&created["kind"], &created["drives"]), (&json!("memory"), &json!(["one", "two"])));
    assert_eq!(loaded["safety"], "before-load");
    let before = vm.numbers();
    vm.count(2);
    let after = vm.numbers();
    // The number after the last one of the guest that was replaced.
    let first = after.iter().zip(after.iter().skip(1)).find(|(one, next)| **next != **one + 1).unwrap();
    assert!(*first.0 >= later && *first.1 <= saved_by, "it went on from {first:?}, saved by {saved_by}: {before:?}");
    // The guest writes to both disks, and then prints: the set was saved at one moment.
    let saved = ["one", "two"].map(|drive| written(&vm.image(drive), Some("one moment")));
    assert!(saved[0] - saved[1] <= 1 && (saved[1]..=saved[1] + 1).contains(first.1), "{saved:?} {first:?}");
    let kinds = kinds(&vm.home, "web");
    assert_eq!(kinds[&("one".to_owned(), "one moment".to_owned())], "memory");
    assert_eq!(kinds[&("two".to_owned(), "before-load".to_owned())], "safety");

    // Taken back: the disks are as they were before the load.
    vm.home.json(&["stop", "web", "--force"]);
    vm.home.json(&["snapshot", "load", "web", "all", "before-load"]);
    assert!(written(&vm.image("one"), None) >= later);
    for drive in ["one", "two"] {
        assert_intact(&vm.image(drive));
    }

    let started = vm.home.json(&["snapshot", "load", "web", "all", "one moment", "--start"]);
    assert_eq!((&started["outcome"], &started["kind"]), (&json!("loaded"), &json!("memory")));
    let log = vm.home.json(&["status", "web"])["serial_log"].as_str().unwrap().to_owned();
    let resumed =
        wait::until(MINUTE, "the guest goes on", || CountSector::numbers(&serial::text(log.as_ref())).first().copied());
    assert!((saved[1]..=saved[1] + 1).contains(&resumed), "{resumed} after {saved:?}");
    vm.home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_live_snapshots_are_replaced_removed_and_of_one_drive() {
    let vm = Counting::start(TestHome::new());
    let home = &vm.home;
    vm.count(2);

    home.json(&["snapshot", "create", "web", "all", "s", "--live", "--description", "first"]);
    let exists = home.json_error(&["snapshot", "create", "web", "all", "s", "--live"], 4);
    let replaced = home.json(&["snapshot", "create", "web", "all", "s", "--live", "--overwrite"]);
    let disk = home.json(&["snapshot", "create", "web", "two", "alone", "--live"]);

    assert_eq!(exists["code"], "snapshot.exists");
    assert_eq!(
        (&replaced["replaced"], &disk["kind"], &disk["drives"]),
        (&json!(true), &json!("disk"), &json!(["two"]))
    );
    let two = |name: &str| ("two".to_owned(), name.to_owned());
    let listed = kinds(home, "web");
    assert_eq!((listed.len(), &*listed[&two("s")], &*listed[&two("alone")]), (3, "memory", "disk"));
    // A snapshot of one drive, or of another time for one drive, does not fit the memory.
    assert_eq!(
        home.json_error(&["snapshot", "load", "web", "two", "alone", "--live"], 4)["code"],
        "snapshot.unsupported"
    );
    assert_eq!(
        home.json_error(&["snapshot", "load", "web", "all", "alone", "--live"], 3)["code"],
        "snapshot.not-found"
    );
    home.json(&["snapshot", "create", "web", "two", "s", "--live", "--overwrite"]);
    assert_eq!(home.json_error(&["snapshot", "load", "web", "all", "s", "--live"], 4)["code"], "snapshot.conflict");

    home.json(&["snapshot", "rm", "web", "all", "s", "--live"]);
    assert_eq!(names(home, "web"), ["alone"]);
    assert_eq!(home.json_error(&["snapshot", "rm", "web", "all", "s", "--live"], 3)["code"], "snapshot.not-found");
    assert_eq!(home.json(&["status", "web"])["status"], "running");
    home.json(&["stop", "web", "--force"]);
    for drive in ["one", "two"] {
        assert_intact(&vm.image(drive));
    }
}

#[test]
fn test_live_and_offline_name_each_other() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "storage: [{name: hdd, size: 4M}]\n"));

    let stopped = home.json_error(&["snapshot", "create", "web", "all", "s", "--live"], 4);
    home.json(&["start", "web"]);
    let running = home.json_error(&["snapshot", "create", "web", "all", "s"], 4);
    home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
    let paused = home.json(&["snapshot", "load", "web", "all", "s", "--live", "--no-safety"]);
    let started = home.json_error(&["snapshot", "load", "web", "all", "s", "--start"], 4);

    assert_eq!([&stopped["code"], &started["code"]], ["snapshot.live-conflict"; 2]);
    assert_eq!(running["code"], "snapshot.live-required");
    assert!(running["hints"][0].as_str().unwrap().contains("`--live`"), "{running}");
    assert_eq!((home.json(&["status", "web"])["status"].as_str(), paused.get("safety")), (Some("paused"), None));
    assert_eq!(names(&home, "web"), ["s"]);
    home.json(&["stop", "web", "--force"]);
}

/// A snapshot that maqet does not know, of a VM with other memory: QEMU reverts the disks and then fails.
fn foreign_snapshot(home: &TestHome) {
    let yaml = CountSector::yaml("web", &CountSector::write(home), &["one", "two"]);
    home.add(&yaml);
    home.json(&["start", "web", "--paused"]);
    let save = json!({ "job-id": "j", "tag": "foreign", "vmstate": "one", "devices": ["one", "two"] });
    home.json(&["qmp", "run", "web", "snapshot-save", "--json", &save.to_string()]);
    home.json(&["stop", "web", "--force"]);
    home.json(&["apply", "web", "--memory", "24M"]);
}

#[test]
fn test_live_load_that_fails_ends_qemu_and_reverts_the_disks() {
    let home = TestHome::new();
    foreign_snapshot(&home);
    let started = home.json(&["start", "web"]);
    let vm = Counting { log: started["serial_log"].as_str().unwrap().into(), home };
    let counted = vm.count(3);

    let error = vm.home.json_error(&["snapshot", "load", "web", "all", "foreign", "--live"], 1);

    assert_eq!(error["code"], "snapshot.load-failed", "{error}");
    assert!(error["causes"].to_string().contains("Error -22 while loading VM state"), "{error}");
    let status = vm.home.json(&["status", "web"]);
    assert_eq!((&status["status"], &status["reason"]), (&json!("stopped"), &json!("restore-failed")));
    assert_eq!(vm.home.qemu_pids(), Vec::<i32>::new());
    for drive in ["one", "two"] {
        assert!(written(&vm.image(drive), None) >= counted, "the disk was not reverted to its state before the load");
        assert_intact(&vm.image(drive));
    }
    assert_eq!(names(&vm.home, "web"), ["foreign", "foreign"]);

    // Started from it, the guest does not run either: QEMU's run state is `prelaunch` then.
    let error = vm.home.json_error(&["snapshot", "load", "web", "all", "foreign", "--start"], 1);
    assert_eq!(error["code"], "snapshot.load-failed");
    assert_eq!(vm.home.json(&["status", "web"])["reason"], "restore-failed");
    assert!(written(&vm.image("two"), None) >= counted);
    vm.home.json(&["start", "web"]);
    vm.home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_live_load_into_another_machine_is_refused() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "  - {device: qemu-xhci}\nrng: false\nstorage: [{name: hdd, size: 4M}]\n"));
    home.json(&["start", "web"]);
    home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
    home.write("stick.raw", vec![0; 1 << 20]);
    home.json(&["qmp", "device-add", "web", "usb-tablet", "--id", "pen"]);

    let plugged = home.json_error(&["snapshot", "load", "web", "all", "s", "--live"], 4);
    home.json(&["stop", "web", "--force"]);
    home.json(&["apply", "web", "--set", "cpu=2", "--set", "rng=true"]);
    let boots = home.json(&["status", "web"])["boot"].clone();
    let other = home.json_error(&["snapshot", "load", "web", "all", "s", "--start"], 4);

    assert_eq!((&plugged["code"], &other["code"]), (&json!("snapshot.conflict"), &json!("snapshot.conflict")));
    let message = |error: &Value| error["message"].as_str().unwrap().to_owned();
    assert!(message(&plugged).contains("hot-plugged device `pen (usb-tablet)` only in the VM"), "{plugged}");
    assert!(message(&other).contains("argument `-smp 1` in the snapshot, `-smp 2` now"), "{other}");
    assert!(message(&other).contains("\"id\":\"maqet-rng\"}` only in the VM"), "{other}");
    assert!(other["hints"][0].as_str().unwrap().contains("`rng: false`"), "{other}");
    assert!(!plugged["hints"].to_string().contains("rng"), "{plugged}");
    let status = home.json(&["status", "web"]);
    assert_eq!((&status["status"], status["pid"].as_u64()), (&json!("stopped"), None), "{boots}");
    assert_eq!(names(&home, "web"), ["s"]);
}

#[test]
fn test_live_snapshot_of_all_names_what_blocks_it() {
    let home = TestHome::new();
    let drives = "storage:\n  - {name: hdd, size: 4M}\n  - {name: scratch, type: raw, size: 1M}\n  \
                  - {name: fast, size: 4M, interface: nvme}\n";
    home.add(&(guest::paused_yaml("web") + drives));
    home.json(&["start", "web"]);

    let refused = home.json_error(&["snapshot", "create", "web", "all", "s", "--live"], 4);
    // The disk of one drive can be saved all the same.
    home.json(&["snapshot", "create", "web", "hdd", "s", "--live"]);

    let message = refused["message"].as_str().unwrap();
    assert_eq!(refused["code"], "snapshot.refused");
    assert!(
        message.contains("/nvme") && message.contains("drive `scratch` is writable and has the format `raw`"),
        "{message}"
    );
    assert_eq!(names(&home, "web"), ["s"]);
    home.json(&["stop", "web", "--force"]);
}

/// The YAML of a VM with 96 MiB of memory that is not zero, which takes some hundred milliseconds to save.
pub(super) fn heavy(home: &TestHome) -> String {
    let content = home.path("memory");
    fs::write(&content, vec![0xa5; 96 << 20]).unwrap();
    let loader =
        format!("  - {{device: {{loader: null, file: {}, addr: 0x2000000, force-raw: \"on\"}}}}\n", content.display());
    let yaml = CountSector::yaml("web", &CountSector::write(home), &["one", "two"]);
    yaml.replace("memory: 16M", "memory: 192M") + &loader
}

/// Starts a heavy VM whose images are on a small file system; returns it once it counts, with their directory.
pub(super) fn heavy_on_small_disk() -> (Counting, PathBuf) {
    let home = TestHome::new();
    let storage = home.data().join("storage/web");
    home.mount_tmpfs(&storage, "320m");
    home.add(&heavy(&home));
    let vm = Counting::start_added(home);
    vm.count(2);
    (vm, storage)
}

/// Interrupts a live save in a new home once some of the memory is written; `None` if it was done before: QEMU 10.0 saves
/// all of it within a tenth of a second.
fn interrupt_live_save() -> Option<(Counting, Finished)> {
    let home = TestHome::new();
    home.add(&heavy(&home));
    let vm = Counting::start_added(home);
    vm.count(2);
    let qemu = u32::try_from(vm.home.qemu_pids()[0]).unwrap();
    // So that this test, and not the save, has the CPU if the host is busy.
    setpriority_process(Pid::from_raw(qemu.cast_signed()), 19).unwrap();
    let image = vm.image("one");
    let size = || fs::metadata(&image).unwrap().len();
    let before = size();
    let save = vm.home.maqet(["snapshot", "create", "web", "all", "s", "--live"]).spawn();
    let deadline = Instant::now() + MINUTE;
    while size() <= before + (1 << 20) && !save.has_ended() {
        assert!(Instant::now() < deadline, "the save did not begin");
    }
    // The save does not go on before maqet has the signal.
    process::suspend(qemu);
    Command::new("kill").args(["-INT", &save.pid().to_string()]).status().unwrap();
    process::resume(qemu);
    let finished = save.wait();
    if finished.code == Some(0) {
        vm.home.json(&["stop", "web", "--force"]);
        return None;
    }
    Some((vm, finished))
}

#[test]
fn test_live_save_interrupted_leaves_nothing() {
    let interrupted = (0..10).find_map(|_| interrupt_live_save());
    let (vm, interrupted) = interrupted.expect("a save that is slower than this test");
    let image = vm.image("one");
    let timed_out = vm.home.json_error(&["snapshot", "create", "web", "all", "t", "--live", "--timeout", "20ms"], 124);

    assert!(interrupted.code == Some(130) && interrupted.stderr.contains("interrupted"), "{interrupted}");
    assert_eq!(timed_out["code"], "operation.timed-out");
    assert_eq!(names(&vm.home, "web"), Vec::<String>::new());
    vm.count(2);
    assert_eq!(vm.home.json(&["doctor"])["healthy"], true);
    vm.home.json(&["stop", "web", "--force"]);
    assert_intact(&image);
}

/// Fills the start of a drive of a VM that is not running.
fn fill(image: &Path, pattern: u8) {
    let command = format!("write -P {pattern} 0 1M");
    let written = Command::new("qemu-io").args(["-f", "qcow2", "-c", &command]).arg(image).output().unwrap();
    assert!(written.status.success(), "{written:?}");
}

/// Kills QEMU, whose guest is paused and writes nothing, a moment after a command began.
fn kill_qemu_during(home: &TestHome, command: [&str; 2], delay: Duration) -> Finished {
    let pid = home.json(&["start", "web", "--paused"])["pid"].to_string();
    let run = home.maqet(["snapshot", command[0], "web", "all", command[1], "--live"]).spawn();
    let began = Instant::now();
    while began.elapsed() < delay {
        std::thread::yield_now();
    }
    Command::new("kill").args(["-9", &pid]).status().unwrap();
    run.wait()
}

#[test]
fn test_qemu_killed_in_a_live_save_or_load_loses_nothing() {
    const KEPT: u8 = 0x5a;
    const NOW: u8 = 0xa5;
    let home = TestHome::new();
    home.add(&heavy(&home));
    home.json(&["snapshot", "create", "web", "all", "empty"]);
    let images = ["one", "two"].map(|drive| home.data().join(format!("storage/web/{drive}.qcow2")));
    for image in &images {
        fill(image, KEPT);
    }
    home.json(&["start", "web", "--paused"]);
    home.json(&["snapshot", "create", "web", "all", "kept", "--live"]);
    home.json(&["stop", "web"]);

    let kills = if variable::is_long() { 25 } else { 2 };
    for number in 0..kills {
        for command in [["create", "s"], ["load", "kept"]] {
            for image in &images {
                fill(image, NOW);
            }
            let ended = kill_qemu_during(&home, command, Duration::from_millis(20 + 37 * (number * 7 % 10)));

            let status = home.json(&["status", "web"]);
            assert_eq!(status["status"], "stopped", "{status}\n{ended}");
            let done = ended.code == Some(0);
            let content = if done && command[0] == "load" { KEPT } else { NOW };
            for image in &images {
                if !done {
                    assert_intact_after(image, &ended);
                }
                assert_eq!(written(image, None), u16::from_le_bytes([content; 2]), "{ended}");
            }
            let left: BTreeSet<String> = names(&home, "web").into_iter().collect();
            let more = if command[0] == "create" { "s" } else { "before-load" };
            let expected = ["empty", "kept"].into_iter().chain(done.then_some(more));
            assert_eq!(left, expected.map(str::to_owned).collect(), "{ended}");
            if done {
                // QEMU had work of its own left, and a kill can leave clusters without a use.
                for image in &images {
                    qemu_img_check(image, &["-r", "leaks"]);
                }
                home.json(&["snapshot", "rm", "web", "all", more]);
            }
        }
    }
}

#[test]
fn test_live_snapshot_includes_the_uefi_variables() {
    let home = TestHome::new();
    home.add(&(guest::paused_yaml("web") + "firmware: uefi\nstorage: [{name: hdd, size: 4M}]\n"));
    home.json(&["start", "web"]);

    let created = home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
    home.json(&["snapshot", "load", "web", "all", "s", "--live"]);

    assert_eq!(created["drives"], json!(["hdd", "uefi-vars"]));
    assert_eq!(kinds(&home, "web")[&("uefi-vars".to_owned(), "s".to_owned())], "memory");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_live_snapshot_of_suspended_guest_is_refused() {
    let home = TestHome::new();
    let image = GuestAct::Suspend.write(&home, "suspend");
    let yaml = CountSector::yaml("web", &image, &["one"]);
    home.add(&yaml);
    home.json(&["start", "web"]);
    home.json(&["wait", "web", "--for", "status=suspended"]);

    let refused = home.json_error(&["snapshot", "create", "web", "all", "s", "--live"], 4);

    assert_eq!(refused["code"], "vm.status-conflict");
    home.json(&["stop", "web", "--force"]);
}
