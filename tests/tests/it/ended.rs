//! Commands that use a VM while its QEMU ends: each says that the VM has stopped, and why.

use std::fs::{self, Permissions};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use maqet_testkit::guest::{AfterMarker, BootSector, Rom};
use maqet_testkit::{TestHome, qemu, wait};
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

/// Adds the VM `web`, whose firmware ends QEMU at once.
fn add_firmware(home: &TestHome, rom: Rom, more: &str) {
    let image = rom.write(home);
    home.add(&format!(
        "name: web\naccel: tcg\nmemory: 16M\n{more}arguments:\n  - no-reboot\n  - {{bios: \"{}\"}}\n  \
         - {{device: {{isa-debug-exit: null, iobase: \"0xf4\", iosize: \"0x04\"}}}}\n",
        image.display()
    ));
}

#[test]
fn test_start_guest_as_fast_as_the_monitor_has_run() {
    for (rom, reason) in [(Rom::TripleFault, "triple-fault"), (Rom::DebugExit, "debug-exit")] {
        let home = TestHome::new();
        add_firmware(&home, rom, "");

        // It is sometimes running, and sometimes it has stopped.
        let started = home.json(&["start", "web"]);
        wait::until(TIMEOUT, "the end", || (home.json(&["status", "web"])["status"] == "stopped").then_some(()));

        assert_eq!((&started["changed"], &started["boot"]), (&json!(true), &json!(1)), "{started}");
        assert_eq!(home.json(&["status", "web"])["reason"], reason);
    }
}

#[test]
fn test_start_guest_faster_than_the_monitor_is_recorded_as_stopped() {
    for (rom, reason, text) in [
        (Rom::TripleFault, "triple-fault", "the guest's processor had a triple fault, and QEMU exits on that"),
        (Rom::DebugExit, "debug-exit", "the guest ended QEMU through `isa-debug-exit`"),
    ] {
        let home = TestHome::new();
        // The command monitor is where maqet does not find it.
        let other = home.path("other.sock");
        let script = format!(
            "#!/bin/sh\nfor word do\n  shift\n  case \"$word\" in *path=*/qmp.sock,*) word=socket,id=qmp,path={},server=on,wait=off;; \
             esac\n  set -- \"$@\" \"$word\"\ndone\nexec {} \"$@\"\n",
            other.display(),
            qemu::emulator().display(),
        );
        let binary = home.write("qemu", script);
        fs::set_permissions(&binary, Permissions::from_mode(0o700)).unwrap();
        add_firmware(&home, rom, &format!("binary: {}\n", binary.display()));

        let started = home.json(&["start", "web"]);
        let again = home.maqet(["start", "web"]).run().ok();

        assert_eq!((&started["status"], &started["reason"]), (&json!("stopped"), &json!(reason)), "{started}");
        assert_eq!((&started["changed"], &started["pid"]), (&json!(true), &json!(null)));
        assert_eq!(again.stdout, format!("`web` is stopped ({text})\n"));
        let status = home.json(&["status", "web"]);
        assert_eq!((&status["reason"], &status["boot"]), (&json!(reason), &json!(2)), "{status}");
        let events = home.maqet(["events", "web", "--format", "json"]).run().ok().stdout;
        assert_eq!((events.matches("vm.started").count(), events.matches("vm.stopped").count()), (2, 2), "{events}");
        assert_eq!(home.qemu_pids(), [0; 0]);
    }
}
