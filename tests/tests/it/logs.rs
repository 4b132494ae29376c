//! `logs` on real QEMU: output of the guest, QEMU and maqet, live and afterward.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use maqet_testkit::{Running, TestHome, guest, serial, wait};
use serde_json::{Value, json};

const MARKER: &str = "maqet-logs";

/// The marker as the guest prints it: in green.
const PRINTED: &str = "\u{1b}[32mmaqet-logs";

/// Starts a guest that prints the marker, waits for a byte on its serial port, and exits; returns once it waits.
fn waiting_guest(home: &TestHome) -> Value {
    let image = guest::BootSector::new(PRINTED, guest::AfterMarker::WaitForByte).write(home);
    home.add(&guest::BootSector::yaml("web", &image));
    let started = home.json(&["start", "web"]);
    serial::wait_for(started["serial_log"].as_str().unwrap().as_ref(), MARKER, wait::LONG);
    started
}

/// Sends the guest its byte.
fn let_go(home: &TestHome) {
    serial::Line::of(home).write_all(b"x").unwrap();
}

/// Interrupts a command as Ctrl-C does, once it follows, which it notes before.
fn interrupt(running: &mut Running) {
    running.wait_for_stderr("no serial output");
    assert!(Command::new("kill").args(["-INT", &running.pid().to_string()]).status().unwrap().success());
}

#[test]
fn test_logs_in_pipe_are_every_byte_written() {
    let home = TestHome::new();
    let started = waiting_guest(&home);

    let shown = home.maqet(["logs", "web"]).run().ok();
    let document = home.json(&["logs", "web"]);

    let written = fs::read(started["serial_log"].as_str().unwrap()).unwrap();
    assert_eq!(shown.stdout.as_bytes(), written);
    assert!(shown.stdout.contains(&format!("{PRINTED}\r\n")), "{:?}", shown.stdout);
    assert_eq!((&document["log"], &document["boot"]), (&json!("serial"), &json!(1)));
    assert_eq!((&document["length"], &document["offset"]), (&json!(written.len()), &json!(0)));
    assert_eq!(document["text"].as_str().unwrap().as_bytes(), written);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_logs_follow_ends_with_guest_after_all_output() {
    let home = TestHome::new();
    waiting_guest(&home);
    let words = home.maqet(["logs", "web", "--follow", "--lines", "1"]).spawn();
    let objects = home.maqet(["logs", "web", "-f", "--format", "json"]).spawn();

    let_go(&home);

    let words = words.wait().ok().stdout;
    assert_eq!(words, format!("{PRINTED}\r\n"));
    let objects = objects.wait().ok().stdout;
    let texts: Vec<Value> = objects.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text: String = texts.iter().map(|object| object["text"].as_str().unwrap()).collect();
    assert!(text.ends_with(&words), "{text:?}");
}

#[test]
fn test_logs_follow_interrupted_exits_130_and_guest_runs() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    let mut following = home.maqet(["logs", "web", "--follow"]).spawn();

    interrupt(&mut following);
    let ended = following.wait().code(130);

    assert!(ended.stderr.contains("no serial output of `web` in boot 1"), "{}", ended.stderr);
    assert_eq!(home.json(&["status", "web"])["status"], "paused");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_logs_with_blocked_output_end_on_signal() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let started = home.json(&["start", "web"]);
    // More than a pipe and its buffers hold.
    fs::write(started["serial_log"].as_str().unwrap(), vec![b'x'; 8 << 20]).unwrap();

    let mut logs = home.maqet(["logs", "web"]).into_command().spawn().unwrap();
    let unread = rustix::pipe::fcntl_getpipe_size(logs.stdout.as_ref().unwrap()).unwrap();
    wait::until(wait::LONG, "the pipe to be full", || {
        let waiting = rustix::io::ioctl_fionread(logs.stdout.as_ref().unwrap()).unwrap();
        (usize::try_from(waiting).unwrap() >= unread).then_some(())
    });
    assert!(Command::new("kill").args(["-TERM", &logs.id().to_string()]).status().unwrap().success());
    let ended = wait::try_until(wait::LONG, || logs.try_wait().unwrap());
    let _gone_already = logs.kill();

    assert_eq!(ended.and_then(|status| status.code()), Some(130));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_logs_follow_of_removed_vm_ends() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    let mut serial = home.maqet(["logs", "web", "--follow"]).spawn();
    let mut maqet = home.maqet(["logs", "web", "--follow", "--maqet"]).spawn();
    serial.wait_for_stderr("no serial output");
    maqet.wait_for_stdout("start: done");

    home.json(&["rm", "web", "--force"]);

    serial.wait().ok();
    maqet.wait().ok();
}

#[test]
fn test_logs_of_each_boot_are_separate() {
    let home = TestHome::new();
    home.add(&format!("{}  - nonsense\n", guest::paused_yaml("web")));
    home.json_error(&["start", "web"], 2);

    let refused = home.maqet(["logs", "web", "--qemu"]).run().ok();
    home.write("repaired.yaml", guest::paused_yaml("web"));
    home.json(&["apply", "web", "repaired.yaml"]);
    home.json(&["start", "web"]);
    home.json(&["stop", "web"]);
    home.json(&["start", "web"]);
    let newest = home.json(&["logs", "web", "--qemu"]);
    let first = home.json(&["logs", "web", "--qemu", "--boot", "1"]);

    assert!(refused.stdout.contains("-nonsense: invalid option"), "{}", refused.stdout);
    assert_eq!((&newest["boot"], &newest["boots_kept"]), (&json!(2), &json!([1, 2])));
    assert_eq!(first["boot"], 1);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_logs_of_maqet_list_operations_and_outcomes() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json_error(&["qmp", "web", "query-status"], 4);
    home.json(&["start", "web"]);
    home.json(&["status", "web"]);
    home.json(&["qmp", "web", "query-status"]);
    home.json(&["stop", "web"]);

    let log = home.json(&["logs", "web", "--maqet"]);

    let lines: Vec<&str> = log["text"].as_str().unwrap().lines().collect();
    let expected =
        ["add: done", "qmp.run query-status: failed", "start: done", "qmp.run query-status: done", "stop: done"];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, words) in lines.iter().zip(expected) {
        assert!(line.contains(words) && line.contains("; pid "), "{line}");
    }
    assert!(lines[1].contains("vm.status-conflict"), "{}", lines[1]);
    let file = fs::metadata(log["file"].as_str().unwrap()).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert_eq!(log.get("boot"), None);
}

#[test]
fn test_logs_unavailable_explain_why() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.add(&format!("{}serial: none\n", guest::paused_yaml("mute")));

    let never = home.json_error(&["logs", "web"], 4);
    home.json(&["start", "web"]);
    home.json(&["start", "mute"]);
    let boot = home.json_error(&["logs", "web", "--boot", "9"], 3);
    let mute = home.json_error(&["logs", "mute"], 4);
    let both = home.json_error(&["logs", "web", "--boot", "1", "--maqet"], 2);
    fs::remove_file(home.json(&["status", "web"])["serial_log"].as_str().unwrap()).unwrap();
    let removed = home.json_error(&["logs", "web"], 3);

    assert_eq!(never["code"], "log.run-not-found");
    assert_eq!(
        (&boot["code"], &boot["hints"][0]),
        (&json!("log.boot-not-found"), &json!("choose a boot with logs: 1"))
    );
    assert_eq!(
        (&mute["code"], mute["message"].as_str().unwrap().contains("serial: none")),
        (&json!("log.unavailable"), true)
    );
    assert_eq!((&both["code"], &removed["code"]), (&json!("usage.invalid"), &json!("log.file-not-found")));
    home.json(&["stop", "--all", "--force"]);
}
