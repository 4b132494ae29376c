//! Long work that is canceled, killed, or finds the disk full: the drive is as it was.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use maqet_testkit::{TestHome, guest, namespaces, qemu, wait};
use serde_json::{Value, json};

use super::{VM, assert_files, content, fill, home_with, image, write_patterns};

/// How long a tool may take to start on a busy host.
const START: Duration = wait::LONG;

/// Creates a `qemu-img` that prints a progress and then blocks, in a conversion, until there is a file `go`.
fn slow_convert(home: &TestHome) -> OsString {
    slow_tool(home, "convert")
}

/// Does the same for another command of `qemu-img`.
pub(crate) fn slow_tool(home: &TestHome, command: &str) -> OsString {
    let release = home.path("go");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = {command} ]; then\n  printf '    (12.50/100%%)\\r'\n  touch '{0}.waits'\n  \
         until [ -e '{0}' ]; do sleep 0.05; done\nfi\nexec {1} \"$@\"\n",
        release.display(),
        qemu::image_tool().display(),
    );
    let tool = home.write("tools/qemu-img", script);
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let mut path = tool.parent().unwrap().as_os_str().to_owned();
    path.push(":/usr/bin:/bin");
    path
}

pub(crate) fn wait_for_tool(home: &TestHome) {
    wait::until(START, "the tool to run", || home.path("go.waits").exists().then_some(()));
}

/// A conversion of 4 MiB that blocks for a while.
#[test]
fn test_convert_reports_progress_and_is_canceled_within_a_second() {
    let home = home_with("  - {name: hdd, size: 4M}\n");
    let disk = image(&home, "hdd.qcow2");
    write_patterns(&disk, "qcow2", &["write -P 5 0 4M"]);
    let (before, definition) = (fs::read(&disk).unwrap(), home.json(&["info", VM]));
    let path = slow_convert(&home);
    let attempt = || {
        let _first_attempt = fs::remove_file(home.path("go.waits"));
        let convert = home.maqet(["storage", "convert", VM, "hdd", "raw", "--format", "json"]);
        let mut convert = convert.env("PATH", &path).spawn();
        wait_for_tool(&home);
        let busy = home.json(&["status", VM]);
        convert.wait_for_stderr_times("\"done\":524288", 4);
        let interrupted = Command::new("kill").args(["-INT", &convert.pid().to_string()]).status().unwrap();
        assert!(interrupted.success());
        let at = Instant::now();
        let finished = convert.wait().code(130);
        (busy, finished, at.elapsed())
    };

    // Another load of the machine may delay one of them.
    let is_soon = |took: Duration| took < Duration::from_secs(1);
    let mut last = attempt();
    for _ in 0..4 {
        if !is_soon(last.2) {
            last = attempt();
        }
    }
    let (busy, finished, took) = last;

    assert!(is_soon(took), "{took:?}");
    let lines: Vec<Value> = finished.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reports: Vec<&Value> =
        lines.iter().map(|line| &line["progress"]).filter(|line| !line["done"].is_null()).collect();
    assert!(reports.len() >= 4, "{finished}");
    assert_eq!((&reports[0]["done"], &reports[0]["total"]), (&json!(1 << 19), &json!(4 << 20)), "{finished}");
    assert_eq!((&busy["status"], &busy["busy"]["reason"]), (&json!("busy"), &json!("storage.convert")));
    assert_eq!(fs::read(&disk).unwrap(), before);
    assert_eq!(home.json(&["info", VM]), definition);
    assert_files(&home, &["hdd.qcow2"]);
    home.json(&["storage", "convert", VM, "hdd", "raw"]);
}

/// A `qemu-img` that is cut off while it changes an image in place can damage it.
#[test]
fn test_change_in_place_is_finished_after_two_interrupts() {
    let home = home_with("  - {name: hdd, size: 4M}\n");
    for (command, arguments) in
        [("snapshot", ["snapshot", "create", VM, "hdd", "one"]), ("resize", ["storage", "resize", VM, "hdd", "8M"])]
    {
        let path = slow_tool(&home, command);
        let running = home.maqet(arguments).env("PATH", &path).spawn();
        wait_for_tool(&home);
        let pid = running.pid().to_string();
        wait::until(START, "the command to end", || {
            Command::new("kill").args(["-INT", &pid]).status().unwrap();
            // Of a process that exited, nothing is left to read.
            fs::read(format!("/proc/{pid}/cmdline")).unwrap().is_empty().then_some(())
        });
        running.wait().code(130);

        assert!(!home.processes().is_empty(), "{command}");
        home.write("go", "");
        wait::until(START, "the tool to end", || home.processes().is_empty().then_some(()));
        fs::remove_file(home.path("go")).unwrap();
        fs::remove_file(home.path("go.waits")).unwrap();
    }
    assert_eq!(home.json(&["snapshot", "ls", VM])[0]["name"], "one");
    assert_eq!(home.json(&["storage", "ls", VM])[0]["virtual_bytes"], 8 << 20);
}

#[test]
fn test_convert_that_is_killed_leaves_no_tool_and_no_lock() {
    let home = home_with("  - {name: hdd, size: 4M}\n");
    let path = slow_convert(&home);
    for command in [&["convert", VM, "hdd", "qcow2"][..], &["compact", VM, "hdd"]] {
        let running = home.maqet([&["storage"], command].concat()).env("PATH", &path).spawn();
        wait_for_tool(&home);

        let _killed = running.kill();

        home.json(&["storage", "compact", VM, "hdd"]);
        assert_files(&home, &["hdd.qcow2"]);
        wait::until(START, "the tool to end", || home.processes().is_empty().then_some(()));
        fs::remove_file(home.path("go.waits")).unwrap();
    }
    assert!(!home.path("go").exists());
}

#[test]
fn test_convert_past_its_timeout_leaves_the_drive() {
    let home = home_with("  - {name: hdd, size: 4M}\n");
    let path = slow_convert(&home);
    let arguments = ["storage", "compact", VM, "hdd", "--timeout", "300ms", "--format", "json"];

    let failed = home.maqet(arguments).env("PATH", &path).run().code(124);

    assert_eq!(failed.json_error()["error"]["code"], "operation.timed-out", "{failed}");
    assert_files(&home, &["hdd.qcow2"]);
}

/// Two VMs have the same image, so that their own locks differ.
#[test]
fn test_image_is_worked_on_by_one_operation_at_a_time() {
    let home = home_with("  - {name: hdd, size: 4M}\n");
    let file = image(&home, "hdd.qcow2");
    home.add(&format!("{}storage: [{{name: shared, file: {}}}]\n", guest::paused_yaml("other"), file.display()));
    home.write("config/maqet/maqet.conf", "timeouts: {lock: 200ms}\n");
    let path = slow_convert(&home);
    let first = home.maqet(["storage", "convert", VM, "hdd", "qcow2"]).env("PATH", &path).spawn();
    wait_for_tool(&home);

    let second = home.json_error(&["storage", "compact", "other", "shared"], 75);

    assert_eq!(second["code"], "lock.in-use", "{second}");
    let message = second["message"].as_str().unwrap();
    assert!(message.contains("`storage.convert`") && message.contains(&format!("process {}", first.pid())), "{second}");
    home.write("go", "");
    first.wait().ok();
    home.json(&["storage", "compact", "other", "shared"]);
}

/// Another program writes to the image while it is read.
#[test]
fn test_image_changed_meanwhile_is_not_replaced() {
    let home = home_with("  - {name: hdd, size: 4M}\n");
    let disk = image(&home, "hdd.qcow2");
    let path = slow_convert(&home);
    let convert = home.maqet(["storage", "convert", VM, "hdd", "qcow2", "--format", "json"]).env("PATH", &path).spawn();
    wait_for_tool(&home);

    write_patterns(&disk, "qcow2", &["write -P 9 0 1M"]);
    let changed = content(&disk, "qcow2");
    home.write("go", "");
    let refused = convert.wait().code(75);

    assert_eq!(refused.json_error()["error"]["code"], "storage.conflict", "{refused}");
    assert_eq!(content(&disk, "qcow2"), changed);
    assert_files(&home, &["hdd.qcow2"]);
}

/// Kills conversions, at moments spread over the time that one takes: the data is there, in one image or the other.
#[test]
fn test_convert_killed_at_any_moment_keeps_the_data() {
    const KILLS: u32 = 12;
    let home = home_with("  - {name: hdd, size: 64M}\n");
    fill(&image(&home, "hdd.qcow2"), 24);
    let expected = content(&image(&home, "hdd.qcow2"), "qcow2");
    let length = home.maqet(["storage", "convert", VM, "hdd", "qcow2"]).run().ok().duration;

    for kill in 0..KILLS {
        let file = home.path(format!("moved-{kill}.qcow2"));
        let command: &[&str] = &["storage", "convert", VM, "hdd", "qcow2"];
        let elsewhere = [OsString::from("--file"), file.into()];
        let convert = home.maqet(command).args(&elsewhere[..if kill % 2 == 0 { 0 } else { 2 }]);

        let _killed_or_ended = convert.spawn().kill_after(length * kill / KILLS);

        let verified = home.json(&["storage", "verify", VM, "hdd"]);
        assert_eq!(verified["sound"], true, "{verified}");
        let now = PathBuf::from(home.json(&["storage", "ls", VM])[0]["file"].as_str().unwrap());
        assert_eq!(content(&now, "qcow2"), expected, "kill {kill}");
    }
    wait::until(START, "the tools to end", || home.processes().is_empty().then_some(()));
    home.json(&["cleanup"]);
    let is_partial = |path: &PathBuf| path.to_string_lossy().contains(".partial-");
    assert_eq!(home.files().into_iter().filter(is_partial).collect::<Vec<_>>(), Vec::<PathBuf>::new());
    let diagnosis = home.json(&["doctor"]);
    assert_eq!(diagnosis["healthy"], true, "{diagnosis}");
}

/// Mounts a small file system as the directory of the disks.
fn small_storage(home: &TestHome) -> PathBuf {
    let storage = home.data().join("storage").join(VM);
    home.mount_tmpfs(&storage, "12m");
    storage
}

/// Fills a file system but for some bytes.
fn fill_up(folder: &Path, free: u64) {
    let space = rustix::fs::statvfs(folder).unwrap();
    let filler = fs::File::create(folder.join("filler")).unwrap();
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, space.f_bavail * space.f_frsize - free)
        .unwrap();
}

#[test]
fn test_full_disk_leaves_drive_and_no_partial_file() {
    namespaces::within_mounts("storage::interrupted::test_full_disk_leaves_drive_and_no_partial_file", || {
        let home = TestHome::new();
        let storage = small_storage(&home);
        home.add(&super::yaml("  - {name: hdd, size: 64M}\n"));
        home.json(&["start", VM]);
        home.json(&["stop", VM, "--force"]);
        let disk = image(&home, "hdd.qcow2");
        write_patterns(&disk, "qcow2", &["write -P 5 0 5M", "write -P 0 5M 1M"]);
        let before = content_outside(&home, &disk);
        let snapshots = home.json(&["snapshot", "ls", VM]);
        fill_up(&storage, 2 << 20);

        for command in [&["convert", VM, "hdd", "raw"][..], &["convert", VM, "hdd", "qcow2"], &["compact", VM, "hdd"]] {
            let refused = home.json_error(&[&["storage"], command].concat(), 69);

            assert_eq!(refused["code"], "storage.full", "{command:?}: {refused}");
            assert_eq!(content_outside(&home, &disk), before);
            assert_files(&home, &["filler", "hdd.qcow2"]);
        }
        fill_up_rest(&storage);
        let snapshot = home.json_error(&["snapshot", "create", VM, "hdd", "one"], 69);
        assert_eq!(snapshot["code"], "storage.full", "{snapshot}");
        assert_eq!(home.json(&["snapshot", "ls", VM]), snapshots);
        home.json(&["storage", "resize", VM, "hdd", "66M"]);
        home.json(&["storage", "resize", VM, "hdd", "64M", "--shrink"]);
        assert_eq!(content_outside(&home, &disk), before);
        assert_eq!(home.json(&["storage", "verify", VM, "hdd"])["sound"], true);
        assert_files(&home, &["filler", "hdd.qcow2", "rest"]);
        assert_eq!(home.json(&["start", VM])["status"], "paused");
        home.json(&["stop", VM, "--force"]);
    });
}

/// Takes the last free bytes.
fn fill_up_rest(folder: &Path) {
    use std::io::Write;

    let mut rest = fs::File::create(folder.join("rest")).unwrap();
    while rest.write_all(&[1; 4096]).is_ok() {}
}

/// Returns what the guest sees of an image on a full disk.
fn content_outside(home: &TestHome, image: &Path) -> Vec<u8> {
    let copy = home.path("copy.qcow2");
    fs::copy(image, &copy).unwrap();
    content(&copy, "qcow2")
}
