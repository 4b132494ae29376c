//! Snapshots of running VMs where something is in the way: other tools, other sessions, a full disk, a short time.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use maqet_testkit::{TestHome, guest, namespaces, wait};
use serde_json::{Value, json};

use crate::live_snapshots::{Counting, assert_intact, heavy, heavy_on_small_disk, names};

const TWO: &str = "storage: [{name: one, size: 4M}, {name: two, size: 4M}]\n";

/// Returns a VM whose guest does not run, with two drives.
fn paused(home: TestHome) -> TestHome {
    home.add(&(guest::paused_yaml("web") + TWO));
    home
}

fn hint(error: &Value) -> String {
    error["hints"][0].as_str().unwrap().to_owned()
}

/// Runs the command that a hint names, as a user would.
fn follow(home: &TestHome, hint: &str) {
    let maqet = home.maqet([""; 0]).into_command();
    let command = hint.split('`').nth(1).unwrap().replace("maqet ", &format!("{} ", maqet.get_program().display()));
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).envs(maqet.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = shell.output().unwrap();
    assert!(done.status.success(), "{command}: {done:?}");
}

fn image(home: &TestHome, drive: &str) -> std::path::PathBuf {
    home.data().join(format!("storage/web/{drive}.qcow2"))
}

#[test]
fn test_bitmap_of_another_tool_is_named_before_a_load() {
    let vm = Counting::start(TestHome::new());
    let home = &vm.home;
    vm.count(2);
    home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
    let bitmap = json!({ "node": "two", "name": "other tool", "persistent": true }).to_string();
    home.json(&["qmp", "run", "web", "block-dirty-bitmap-add", "--json", &bitmap]);

    let live = home.json_error(&["snapshot", "load", "web", "all", "s", "--live"], 4);

    assert_eq!(live["code"], "snapshot.refused");
    assert!(
        live["message"].as_str().unwrap().contains("drive `two` of VM `web`: it has dirty bitmaps of another tool")
    );
    assert_eq!(home.json(&["status", "web"])["status"], "running");
    vm.count(2);
    assert_eq!(names(home, "web"), ["s", "s"]);

    // Not killed: QEMU stores the bitmap when it exits.
    home.json(&["stop", "web", "--timeout", "100ms"]);
    let offline = home.json_error(&["snapshot", "load", "web", "all", "s"], 4);
    assert_eq!(offline["code"], "snapshot.refused");
    assert_eq!(names(home, "web"), ["s", "s"]);
    home.json(&["start", "web"]);
    follow(home, &hint(&live));
    home.json(&["snapshot", "load", "web", "all", "s", "--live"]);
    home.json(&["stop", "web", "--force"]);
}

/// It appears between the load and its recovery, which it stops.
#[test]
fn test_recovery_names_the_bitmap_that_stops_it() {
    let home = paused(TestHome::with_fault_points());
    home.json(&["start", "web"]);
    home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
    let load = home.maqet(["snapshot", "load", "web", "all", "s", "--live"]).env("MAQET_FAULT_POINT", "snapshot.safe");
    assert_eq!(load.run().code, None);
    let pid = home.qemu_pids()[0].to_string();
    Command::new("kill").args(["-9", &pid]).status().unwrap();
    let mut add = Command::new("qemu-img");
    add.args(["bitmap", "--add"]).arg(image(&home, "two")).arg("cbt").stderr(Stdio::null());
    wait::until(wait::LONG, "QEMU releases the image", || add.status().unwrap().success().then_some(()));

    let error = home.json_error(&["start", "web"], 4);

    assert_eq!(error["code"], "vm.recovery-failed", "{error}");
    assert!(error["causes"].to_string().contains("dirty bitmaps of another tool: `cbt`"), "{error}");
    follow(&home, &hint(&error));
    home.json(&["start", "web"]);
    assert_eq!(names(&home, "web"), ["s", "s"]);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_recovery_of_a_load_ignores_an_earlier_one() {
    let home = paused(TestHome::with_fault_points());
    home.json(&["start", "web"]);
    home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
    let load = |point: &str| {
        let load = home.maqet(["snapshot", "load", "web", "all", "s", "--live"]).env("MAQET_FAULT_POINT", point);
        assert_eq!(load.run().code, None, "{point}");
    };

    load("snapshot.load.committed");
    load("snapshot.load.marked");
    home.json(&["doctor", "--fix"]);

    assert_eq!(names(&home, "web"), ["before-load", "s", "before-load", "s"]);
    let events = home.maqet(["events", "--type", "vm.recovered"]).run().ok();
    assert!(events.stdout.contains("rolled-back"), "{events}");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_canceled_save_is_undone_while_another_session_is_open() {
    let home = TestHome::new();
    home.add(&heavy(&home));
    let vm = Counting::start_added(home);
    vm.count(1);
    let mut shell = vm.home.maqet(["qmp", "shell", "web"]).into_command();
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    shell.stdin.as_mut().unwrap().write_all(b"query-name\n").unwrap();
    let mut reply = String::new();
    BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut reply).unwrap();

    let began = Instant::now();
    let error = vm.home.json_error(&["snapshot", "create", "web", "all", "s", "--live", "--timeout", "20ms"], 124);

    // It does not wait for the other session, which would time out after 30 s.
    assert!(reply.contains("web") && began.elapsed() < Duration::from_secs(25), "{reply}: {:?}", began.elapsed());
    assert_eq!(error["code"], "operation.timed-out");
    assert_eq!(names(&vm.home, "web"), Vec::<String>::new());
    vm.count(1);
    drop(shell.stdin.take());
    shell.wait().unwrap();
    assert_eq!(vm.home.json(&["doctor"])["healthy"], true);
    vm.home.json(&["stop", "web", "--force"]);
    assert_intact(&vm.image("one"));
}

#[test]
fn test_start_from_a_snapshot_leaves_no_qemu_if_it_fails() {
    let home = paused(TestHome::new());
    home.json(&["start", "web"]);
    home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
    home.json(&["stop", "web", "--force"]);
    let boot = home.json(&["status", "web"])["boot"].clone();

    let one = home.json_error(&["snapshot", "load", "web", "one", "s", "--start"], 4);
    assert_eq!(one["code"], "snapshot.unsupported");
    assert_eq!(home.json(&["status", "web"])["boot"], boot, "it was started");
    let late = home.json_error(&["snapshot", "load", "web", "all", "s", "--start", "--timeout", "1ms"], 124);

    assert_eq!(late["code"], "operation.timed-out");
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
    assert_eq!(home.json(&["status", "web"])["status"], "stopped");
    assert_eq!(names(&home, "web"), ["s", "s"]);
}

#[test]
fn test_live_load_follows_loads_of_single_drives() {
    let home = paused(TestHome::new());
    home.json(&["start", "web"]);
    home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
    home.json(&["snapshot", "load", "web", "all", "s", "--live"]);
    home.json(&["stop", "web", "--force"]);
    home.json(&["snapshot", "load", "web", "two", "s"]);
    home.json(&["start", "web"]);

    home.json(&["snapshot", "load", "web", "all", "s", "--live"]);

    assert_eq!(names(&home, "web"), ["before-load", "s", "before-load", "s"]);
    // Its two tags are in use: the hint says how to go on.
    home.json(&["snapshot", "create", "web", "two", "s", "--live", "--overwrite"]);
    let create = ["snapshot", "create", "web", "all", "s", "--live", "--overwrite"];
    let error = home.json_error(&create, 4);
    assert_eq!(error["code"], "snapshot.exists");
    follow(&home, &hint(&error));
    home.json(&create);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_rm_force_with_an_image_in_use_keeps_the_vm_running() {
    let home = paused(TestHome::new());
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    home.json(&["apply", "web", "--set", "storage=null"]);
    let pid = home.json(&["start", "web"])["pid"].clone();
    let mut stranger = Command::new("qemu-io");
    stranger.args(["-f", "qcow2"]).arg(image(&home, "two")).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut stranger = stranger.spawn().unwrap();
    wait::until_locked(&image(&home, "two"));

    let error = home.json_error(&["rm", "web", "--force", "--delete-storage"], 75);
    let status = home.json(&["status", "web"]);
    drop(stranger.stdin.take());
    stranger.wait().unwrap();

    assert!(error.to_string().contains("qemu-io"), "{error}");
    assert_eq!(status["pid"], pid, "{status}");
    home.json(&["rm", "web", "--force", "--delete-storage"]);
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
}

#[test]
fn test_load_of_another_tools_snapshot_says_that_it_is_unchecked() {
    let home = paused(TestHome::new());
    home.json(&["start", "web"]);
    let save = json!({ "job-id": "j", "tag": "foreign", "vmstate": "one", "devices": ["one", "two"] });
    home.json(&["qmp", "run", "web", "snapshot-save", "--json", &save.to_string()]);
    home.json(&["snapshot", "create", "web", "all", "own", "--live"]);

    let foreign = home.json(&["snapshot", "load", "web", "all", "foreign", "--live"]);
    let own = home.json(&["snapshot", "load", "web", "all", "own", "--live"]);

    assert_eq!((foreign["unchecked"].as_bool(), own.get("unchecked")), (Some(true), None));
    home.json(&["stop", "web", "--force"]);
}

/// A live save that would fill the disk is refused, and the guest goes on.
#[test]
fn test_live_save_on_a_full_disk_leaves_the_guest_running() {
    const NAME: &str = "live_snapshot_faults::test_live_save_on_a_full_disk_leaves_the_guest_running";
    namespaces::within_mounts(NAME, || {
        let (vm, storage) = heavy_on_small_disk();
        let filler = storage.join("filler");
        fill_all_but(&filler, 64 << 20);
        let refused = vm.home.json_error(&["snapshot", "create", "web", "all", "s", "--live"], 4);
        fs::write(&filler, "").unwrap();

        assert_eq!(refused["code"], "snapshot.refused");
        assert_eq!(names(&vm.home, "web"), Vec::<String>::new());
        vm.count(2);
        vm.home.json(&["snapshot", "create", "web", "all", "s", "--live"]);
        vm.home.json(&["stop", "web", "--force"]);
    });
}

/// Fills a file system but for some bytes, also while others write to it.
fn fill_all_but(filler: &Path, free: u64) {
    let file = fs::File::create(filler).unwrap();
    for step in [16 << 20, 1 << 20, 4 << 10] {
        let mut length = file.metadata().unwrap().len();
        let available = || rustix::fs::statvfs(filler).map(|space| space.f_bavail * space.f_frsize).unwrap();
        while available() >= free + step {
            let more = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), length, step);
            if more.is_err() {
                break;
            }
            length += step;
        }
    }
}

/// Returns how many snapshots an image has, and where their table is (`docs/interop/qcow2.txt`).
fn table_of_snapshots(image: &Path) -> [u8; 12] {
    let mut header = [0; 12];
    fs::File::open(image).unwrap().read_exact_at(&mut header, 60).unwrap();
    header
}

/// The image has a snapshot of which QEMU does not know, so that its job fails at the first check.
#[test]
fn test_load_that_changes_nothing_keeps_the_guest() {
    let vm = Counting::start(TestHome::new());
    let home = &vm.home;
    vm.count(2);
    home.json(&["snapshot", "create", "web", "all", "gone", "--live"]);
    let later = vm.count(3);
    let pid = home.json(&["pause", "web"])["pid"].clone();
    let images = ["one", "two"].map(|drive| image(home, drive));
    let tables = images.each_ref().map(|image| table_of_snapshots(image));
    let delete = json!({ "job-id": "j", "tag": "gone", "devices": ["one", "two"] }).to_string();
    home.json(&["qmp", "run", "web", "snapshot-delete", "--json", &delete]);
    wait::until(wait::LONG, "the snapshot to be removed", || {
        (table_of_snapshots(&images[1]) != tables[1]).then_some(())
    });
    for (image, table) in images.iter().zip(&tables) {
        fs::OpenOptions::new().write(true).open(image).unwrap().write_all_at(table, 60).unwrap();
    }
    assert_eq!(names(home, "web"), ["gone", "gone"]);

    let failed = home.json_error(&["snapshot", "load", "web", "all", "gone", "--live"], 1);

    assert_eq!(failed["code"], "snapshot.load-failed", "{failed}");
    assert!(failed["message"].as_str().unwrap().ends_with("nothing was changed"), "{failed}");
    assert!(failed["causes"].to_string().contains("does not exist in one or more devices"), "{failed}");
    let status = home.json(&["status", "web"]);
    assert_eq!((&status["status"], &status["pid"]), (&json!("paused"), &pid), "{status}");
    assert_eq!(names(home, "web"), Vec::<String>::new());
    home.json(&["resume", "web"]);
    assert!(vm.count(2) > later);
    assert_eq!(home.json(&["doctor"])["healthy"], true);
    home.json(&["stop", "web", "--force"]);
}
