//! What messages tell a new user: hints for what is missing, mistyped or in the way.

use std::fs;
use std::process::Command;
use std::time::Duration;

use insta::assert_snapshot;
use maqet_testkit::guest::{AfterMarker, BootSector};
use maqet_testkit::{TestHome, guest, wait};
use serde_json::json;

use crate::output::failure;

fn started() -> TestHome {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    home
}

/// A home whose running VM `web` is no longer in the database.
fn orphaned() -> TestHome {
    let home = started();
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(home.data().join(format!("maqet.db{suffix}")));
    }
    rusqlite_empty(&home);
    home
}

/// Makes an empty database, as if it was lost and not rebuilt yet.
fn rusqlite_empty(home: &TestHome) {
    let elsewhere = TestHome::new();
    elsewhere.json(&["ls"]);
    elsewhere.add(&guest::paused_yaml("other"));
    fs::copy(elsewhere.data().join("maqet.db"), home.data().join("maqet.db")).unwrap();
    let wal = elsewhere.data().join("maqet.db-wal");
    if wal.exists() {
        fs::copy(wal, home.data().join("maqet.db-wal")).unwrap();
    }
}

#[test]
fn test_orphan_keeps_its_start_time_and_its_name() {
    let home = orphaned();
    let listed = home.json(&["ls"]);
    let orphan = listed.as_array().unwrap().iter().find(|vm| vm["status"] == "orphaned").unwrap().clone();
    // Temporary files change the time of the directory of sockets.
    let external = orphan["external_monitor"].as_str().unwrap().to_owned();
    let sockets = std::path::Path::new(&external).parent().unwrap();
    assert!(Command::new("touch").args(["-d", "2001-01-01"]).arg(sockets).status().unwrap().success());

    let again = home.json(&["ls"]);
    let refused = home.json_error(&["add", "--empty", "--name", "web"], 4);

    let orphan_again = again.as_array().unwrap().iter().find(|vm| vm["status"] == "orphaned").unwrap().clone();
    assert_eq!(orphan_again["started_at"], orphan["started_at"]);
    assert!(!orphan["started_at"].as_str().unwrap().starts_with("2001"));
    assert_eq!(refused["code"], "vm.orphan-conflict");
    assert!(refused["hints"].to_string().contains("--adopt-orphans"), "{refused}");
    home.json(&["cleanup", "--end-orphans"]);
}

#[test]
fn test_start_timeout_in_error_is_the_given_one() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));

    let error = home.json_error(&["start", "web", "--wait", "serial:never", "--timeout", "2s"], 124);

    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with("timed out after 2s waiting for `serial:never` on VM `web`"), "{message}");
}

#[test]
fn test_qmp_timeout_in_error_is_the_given_one() {
    let home = started();
    let external = home.json(&["status", "web"])["external_monitor"].as_str().unwrap().to_owned();
    let socket = std::path::Path::new(&external).with_file_name("qmp.sock");
    let _client = std::os::unix::net::UnixStream::connect(socket).unwrap();

    let error = home.json_error(&["qmp", "web", "query-status", "--timeout", "1s"], 75);

    let message = error["message"].as_str().unwrap();
    assert!(message.contains("within 1s;"), "{message}");
}

#[test]
fn test_event_that_no_qemu_has_is_refused_with_suggestion() {
    let home = started();

    let failures = [
        vec!["wait", "web", "--for", "event:SHUTDWON"],
        vec!["wait", "web", "--for", "event:vm.puased"],
        vec!["qmp", "events", "web", "--type", "reste"],
        vec!["events", "--type", "qemu.foo"],
    ]
    .map(|arguments| failure(&home, &arguments).trim_end().replace("\n\nFor more information, try '--help'.", ""));

    assert_snapshot!(failures.join("\n\n"), @"
    usage.invalid, exit code 2
    error: invalid value 'event:SHUTDWON' for '--for <CONDITION>': invalid wait condition `event:SHUTDWON`: unknown event type `SHUTDWON`; did you mean `SHUTDOWN`?

    usage.invalid, exit code 2
    error: invalid value 'event:vm.puased' for '--for <CONDITION>': invalid wait condition `event:vm.puased`: unknown event type `vm.puased`; did you mean `vm.paused`, `vm.upgraded` or `vm.applied`?

    events.type-not-found, exit code 2
    error: unknown event type `qemu.reste`
      hint: did you mean `qemu.RESET` or `qemu.RESUME`?
      hint: write `qemu.reste*` for an event of a newer QEMU

    events.type-not-found, exit code 2
    error: unknown event type `qemu.foo`
      hint: write `qemu.foo*` for an event of a newer QEMU
    ");
    home.json(&["pause", "web"]);
    home.json(&["wait", "web", "--for", "event:shutdown", "--any", "--for", "qmp"]);
}

#[test]
fn test_missing_arguments_name_the_option_instead() {
    let home = TestHome::new();

    for command in ["start", "stop", "pause", "resume", "reset", "restart", "rm"] {
        let error = home.json_error(&[command], 2);
        assert_eq!(error["hints"][0], "name the VMs, or pass `--all` for all of them", "{command}");
    }
    let add = home.json_error(&["add"], 2);
    let wait = home.json_error(&["wait", "--for", "qmp"], 2);

    assert_eq!(add["hints"][0], "pass `--empty` for a VM with default values");
    assert!(!wait["hints"].to_string().contains("--all"), "{wait}");
}

#[test]
fn test_numbers_that_are_none_say_what_is_expected() {
    let home = TestHome::new();

    for arguments in [
        ["logs", "web", "--lines", "ten"],
        ["logs", "web", "--boot", "0"],
        ["console", "web", "--tail", "-x"],
        ["events", "--follow", "--count", "no"],
    ] {
        let error = home.json_error(&arguments, 2);
        let message = error["message"].as_str().unwrap();
        assert!(!message.contains("digit"), "{message}");
    }
    let error = home.json_error(&["logs", "web", "--lines", "ten"], 2);
    assert!(error["message"].as_str().unwrap().contains("expected a whole number of 0 or more"), "{error}");
}

#[test]
fn test_qmp_mistyped_command_suggests_it() {
    let home = started();

    let error = home.json_error(&["qmp", "shel", "web"], 3);

    assert!(error["hints"].to_string().contains("did you mean `maqet qmp shell`?"), "{error}");
}

#[test]
fn test_keys_are_shown_as_they_were_given() {
    let home = TestHome::new();
    let image = BootSector::new("ready", AfterMarker::Sleep).write(&home);
    home.add(&BootSector::yaml("web", &image));
    home.json(&["start", "web", "--wait", "serial:ready"]);

    let text = home.maqet(["keys", "web", "enter", "Ctrl+Alt+Del"]).run().ok().stdout;

    assert_eq!(text, "pressed `enter`, `Ctrl+Alt+Del` on `web`\n");
    assert_eq!(home.json(&["keys", "web", "enter"])["keys"], json!(["ret"]));
}

#[test]
fn test_failed_hook_is_named_as_in_a_shell() {
    let home = TestHome::new();
    home.add(&format!("{}hooks: {{vm.started: [sh, -c, exit 3]}}\n", guest::paused_yaml("web")));

    let stderr = home.maqet(["start", "web"]).run().ok().stderr;

    assert!(stderr.contains("hook `sh -c 'exit 3'` on"), "{stderr}");
}

#[test]
fn test_doctor_names_the_database_once() {
    let home = started();

    let shown = home.maqet(["doctor"]).run().stdout;

    let lines: Vec<&str> = shown.lines().filter(|line| line.contains("maqet.db")).collect();
    assert_eq!(lines.len(), 1, "{shown}");
    assert_eq!(lines[0].matches("maqet.db").count(), 1, "{shown}");
}

#[test]
fn test_dangerous_device_is_named() {
    let home = started();

    let device = home.json_error(&["qmp", "device-add", "web", "vfio-pci", "host=01:00.0"], 2);
    let property = home.json_error(&["qmp", "web", "device_add", "driver=usb-mtp", "rootdir=/"], 2);

    assert!(device["message"].as_str().unwrap().starts_with("`device_add` of `vfio-pci`"), "{device}");
    assert!(property["message"].as_str().unwrap().contains("`usb-mtp`"), "{property}");
}

#[test]
fn test_interrupted_spinner_leaves_its_line_free() {
    let home = started();
    let terminal = maqet_testkit::Terminal::new();
    let waiting = home.maqet(["wait", "web", "--for", "serial:never"]).env("TERM", "xterm").on(&terminal).spawn();
    terminal.wait_for(0, "waiting for");

    wait::until(Duration::from_secs(20), "its end", || {
        Command::new("kill").args(["-INT", &waiting.pid().to_string()]).status().unwrap().success().then_some(())
    });

    waiting.wait().code(130);
    terminal.wait_for(0, "interrupted");
    let shown = terminal.shown();
    let line = shown.rsplit('\n').find(|line| line.contains("interrupted")).unwrap().to_owned();
    let last = line.rsplit(['\r', 'K']).next().unwrap_or_default();
    assert!(!last.contains("waiting for"), "{line:?}");
}
