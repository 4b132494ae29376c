//! Commands that use a VM while its QEMU ends: each says that the VM has stopped, and why.

use std::fs;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use maqet_testkit::guest::{AfterMarker, BootSector};
use maqet_testkit::{TestHome, wait};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_mins(1);

/// A home with the VM `web`, whose guest sleeps.
fn home() -> TestHome {
    let home = TestHome::new();
    let image = BootSector::new("asleep", AfterMarker::Sleep).write(&home);
    home.add(&format!("{}  - {{device: virtio-balloon-pci}}\n", BootSector::yaml("web", &image)));
    home
}

fn end(home: &TestHome, how: &str) {
    let pid = home.json(&["status", "web"])["pid"].to_string();
    let kill = |signal: &str| assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    match how {
        "SIGKILL" => kill("-KILL"),
        "SIGTERM" => kill("-TERM"),
        "quit" => drop(home.json(&["qmp", "web", "quit"])),
        _ => drop(home.json(&["stop", "web", "--force"])),
    }
}

/// Runs a command on `web` that uses QEMU for a long time, ends QEMU once it does, and returns the error.
fn error_of(home: &TestHome, arguments: &[&str], how: &str, uses_qemu: impl Fn(u32) -> bool) -> Value {
    let running = home.maqet(["--format", "json"]).args(arguments).spawn();
    wait::until(TIMEOUT, "its turn on a monitor", || uses_qemu(running.pid()).then_some(()));
    end(home, how);
    running.wait().code(4).json_error()["error"].clone()
}

/// Returns whether a process has a lock or a socket open with this in its path.
fn has_open(pid: u32, part: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file.to_string_lossy().contains(part))
}

#[track_caller]
fn check(arguments: &[&str], how: &str, reason: &str) {
    let home = home();
    home.json(&["start", "web", "--wait", "serial:asleep"]);

    // Keys are pressed in a session.
    let monitor = if arguments[0] == "qmp" { "/qmp" } else { "/qmp-s" };
    let error = error_of(&home, arguments, how, |pid| has_open(pid, monitor));

    assert_eq!(error["code"], "vm.run-interrupted", "{arguments:?}, {how}: {error}");
    assert_eq!(error["message"], format!("VM `web` has stopped: {reason}"), "{arguments:?}, {how}");
    assert!(error["hints"].to_string().contains("maqet start web"), "{error}");
}

#[test]
fn test_type_qemu_ending_meanwhile_is_an_error_with_reason() {
    let slowly = ["type", "web", "a text that takes a while to type", "--delay", "1s"];

    check(&slowly, "SIGKILL", "QEMU crashed or was killed");
    check(&slowly, "SIGTERM", "QEMU was terminated by a signal");
    check(&slowly, "quit", "QEMU was asked to quit");
    check(&slowly, "stop", "QEMU was terminated by a signal");
}

#[test]
fn test_keys_qemu_ending_during_last_key_is_an_error() {
    check(&["keys", "web", "a", "--hold", "2s"], "SIGKILL", "QEMU crashed or was killed");
}

#[test]
fn test_balloon_qemu_ending_meanwhile_is_an_error_with_reason() {
    check(&["qmp", "balloon", "web", "8M"], "SIGKILL", "QEMU crashed or was killed");
}

#[test]
fn test_qmp_qemu_ending_meanwhile_is_an_error_with_reason() {
    let home = home();
    let started = home.json(&["start", "web", "--wait", "serial:asleep"]);
    // QEMU serves one client at a time, so the command waits for its greeting.
    let external = PathBuf::from(started["external_monitor"].as_str().unwrap());
    let socket = external.with_file_name("qmp.sock");
    let client = UnixStream::connect(&socket).unwrap();

    // Its own connection is the third, after the listener and that client.
    let error = error_of(&home, &["qmp", "web", "query-status"], "SIGKILL", |_| wait::sockets_at(&socket) >= 3);

    assert_eq!((&error["code"], client.shutdown(Shutdown::Both).is_ok()), (&json!("vm.run-interrupted"), true));
    assert_eq!(error["message"], "VM `web` has stopped: QEMU crashed or was killed");
    assert_eq!(error["causes"][0], "QEMU closed the connection before it answered `qmp_capabilities`");
}

#[test]
fn test_wait_for_screen_qemu_ending_meanwhile_is_an_error() {
    let home = home();
    home.json(&["start", "web", "--wait", "serial:asleep"]);

    let error = error_of(&home, &["wait", "web", "--for", "screen-stable=5m"], "SIGKILL", |pid| has_open(pid, "/qmp"));

    assert_eq!(error["code"], "wait.vm-unavailable", "{error}");
}
