//! Waiting for conditions, on real QEMU.

use std::fs;
use std::process::Command;
use std::time::Duration;

use insta::assert_snapshot;
use maqet_testkit::guest::{AfterMarker, BootSector};
use maqet_testkit::{TestHome, guest, process, wait};
use serde_json::{Value, json};

use crate::output::failure;

const TIMEOUT: Duration = Duration::from_mins(1);

/// A home with a VM `web` that prints a line, and then sleeps.
fn home() -> TestHome {
    let home = TestHome::new();
    let image = BootSector::new("ready to work", AfterMarker::Sleep).write(&home);
    home.add(&BootSector::yaml("web", &image));
    home
}

fn kill(pid: &Value) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[test]
fn test_start_waits_for_serial_output_and_early_events() {
    let home = home();

    let started = home.json(&["start", "web", "--wait", "serial:ready to .ork", "--wait", "event:vm.started"]);

    assert_eq!((&started["status"], &started["changed"]), (&json!("running"), &json!(true)));
    let waited = home.json(&["wait", "web", "--for", "serial:ready", "--for", "qmp", "--for", "status=running"]);
    assert_eq!(waited["met"], json!(["serial:ready", "qmp", "status=running"]));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_wait_timed_out_shows_console_and_exits_124() {
    let home = home();
    home.json(&["start", "web", "--wait", "serial:ready"]);

    let timed_out = failure(&home, &["wait", "web", "--for", "serial:login:", "--for", "qmp", "--timeout", "2s"]);

    assert_snapshot!(timed_out, @"
    wait.timed-out, exit code 124
    error: timed out after 2s waiting for `serial:login:` on VM `web`
      caused by: the last lines of its serial console are:
                 ready to work
      hint: pass a longer `--timeout`
      hint: check its console with `maqet logs web --follow`
    ");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_wait_vm_exits_ends_at_once_with_reason() {
    let home = home();
    let pid = home.json(&["start", "web"])["pid"].clone();
    let waiting = home.maqet(["--format", "json", "wait", "web", "--for", "serial:login:"]).spawn();
    let stopped = home
        .maqet(["--format", "json", "wait", "web", "--any", "--for", "stopped=any", "--for", "serial:login:"])
        .spawn();
    let orderly = home.maqet(["--format", "json", "wait", "web", "--for", "stopped"]).spawn();

    kill(&pid);

    let error = waiting.wait().code(4).json_error()["error"].clone();
    assert_eq!(error["code"], "wait.vm-unavailable");
    assert!(error["message"].as_str().unwrap().contains("QEMU crashed or was killed"), "{error}");
    assert_eq!(stopped.wait().ok().json_value()["met"], json!(["stopped=any"]));
    assert_eq!(orderly.wait().code(1).json_error()["error"]["code"], "wait.run-failed");
    let never = home.json_error(&["wait", "web", "--for", "qmp"], 4);
    assert!(never["hints"][1].as_str().unwrap().contains("maqet start web"), "{never}");
}

#[test]
fn test_wait_for_event_counts_from_now_unless_since_given() {
    let home = home();
    home.json(&["start", "web"]);
    home.json(&["pause", "web"]);
    home.json(&["resume", "web"]);

    let past = home.json_error(&["wait", "web", "--for", "event:RESUME", "--timeout", "200ms"], 124);
    let counted = home.json(&["wait", "web", "--for", "event:RESUME", "--since", "1m"]);
    let waiting = home.maqet(["--format", "json", "wait", "web", "--for", "event:vm.pau*"]).spawn();
    // It counts from when it began, which is a moment after its start.
    wait::until(TIMEOUT, "the event", || {
        home.json(&["pause", "web"]);
        home.json(&["resume", "web"]);
        waiting.has_ended().then_some(())
    });
    let events = home.maqet(["wait", "web", "--for", "event:vm.paused", "--since", "1m"]).run().code;

    assert_eq!(past["code"], "wait.timed-out");
    assert_eq!((&counted["met"], events), (&json!(["event:RESUME"]), Some(0)));
    assert_eq!(waiting.wait().ok().json_value()["met"], json!(["event:vm.pau*"]));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_wait_for_serial_of_stopped_vm_is_refused_despite_its_log() {
    let home = home();
    let pid = home.json(&["start", "web", "--wait", "serial:ready"])["pid"].clone();
    kill(&pid);
    home.json(&["wait", "web", "--for", "stopped=crashed"]);

    let refused = [None, Some("boot"), Some("now"), Some("1ms")].map(|since| {
        let since = since.map(|since| ["--since", since]).into_iter().flatten();
        home.json_error(&["wait", "web", "--for", "serial:ready"].into_iter().chain(since).collect::<Vec<_>>(), 4)
    });

    assert!(refused.iter().all(|error| error["code"] == "wait.vm-unavailable"), "{refused:?}");
}

#[test]
fn test_wait_for_serial_since_now_ignores_earlier_output() {
    let home = home();
    home.json(&["start", "web", "--wait", "serial:ready"]);

    let earlier =
        home.json_error(&["wait", "web", "--for", "serial:r.*y", "--since", "now", "--timeout", "300ms"], 124);
    let waiting = home.maqet(["--format", "json", "wait", "web", "--for", "serial:r.*y", "--since", "now"]).spawn();
    wait::until(TIMEOUT, "its care for Ctrl-C", || catches_ctrl_c(waiting.pid()).then_some(()));
    // The guest prints the same again.
    home.json(&["reset", "web"]);

    assert_eq!(earlier["code"], "wait.timed-out");
    assert_eq!(waiting.wait().ok().json_value()["met"], json!(["serial:r.*y"]));
    home.json(&["wait", "web", "--for", "serial:r.*y", "--since", "boot"]);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_wait_for_serial_begun_while_stopped_counts_next_boot_only() {
    let home = home();
    home.json(&["start", "web", "--wait", "serial:ready"]);
    home.json(&["stop", "web", "--force"]);

    let any = ["wait", "web", "--any", "--for", "serial:ready", "--for", "event:GUEST_PANICKED"];
    let old = home.json_error(&[&any[..], &["--timeout", "300ms"]].concat(), 124);
    let waiting = home.maqet(["--format", "json"]).args(any).spawn();
    wait::until(TIMEOUT, "its care for Ctrl-C", || catches_ctrl_c(waiting.pid()).then_some(()));
    home.json(&["start", "web"]);

    assert_eq!(old["code"], "wait.timed-out");
    assert_eq!(waiting.wait().ok().json_value()["met"], json!(["serial:ready"]));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_start_wait_counts_serial_of_guest_that_ends_at_once() {
    let home = TestHome::new();
    let image = BootSector::new("short", AfterMarker::Leave).delayed_by(40).write(&home);
    home.add(&BootSector::yaml("web", &image));

    for _ in 0..3 {
        home.json(&["start", "web", "--wait", "serial:short", "--wait", "stopped"]);
    }
}

#[test]
fn test_wait_for_serial_since_time_within_boot_is_refused() {
    let home = home();
    home.json(&["start", "web", "--wait", "serial:ready"]);

    let within = home.json_error(&["wait", "web", "--for", "serial:ready", "--since", "2999-01-01T00:00:00Z"], 2);
    let before = home.json(&["wait", "web", "--for", "serial:ready", "--since", "1h"]);

    assert_eq!(within["code"], "wait.since-unsupported");
    assert!(within["hints"][0].as_str().unwrap().contains("--since boot"), "{within}");
    assert_eq!(before["met"], json!(["serial:ready"]));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_wait_for_stable_screen_leaves_no_image() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);

    home.json(&["wait", "web", "--for", "screen-stable=300ms"]);
    home.json(&["stop", "web", "--force"]);

    assert!(home.files().iter().all(|path| !path.to_string_lossy().contains("/picture-")), "{:?}", home.files());
}

#[test]
fn test_wait_for_file_and_unserved_port_works() {
    let home = home();
    home.json(&["start", "web"]);
    let waiting = home.maqet(["wait", "web", "--for", "file:done"]).spawn();

    fs::write(home.path("done"), "").unwrap();

    waiting.wait().ok();
    let nowhere = home.json_error(&["wait", "web", "--for", "port:22"], 2);
    assert_eq!(nowhere["code"], "wait.forward-not-found");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_wait_mistyped_condition_suggests_similar_one() {
    let home = TestHome::new();

    let failures = [["wait", "web", "--for", "seriel:x"], ["start", "web", "--wait", "login"]]
        .map(|arguments| failure(&home, &arguments));

    assert_snapshot!(failures.join("\n"), @"
    usage.invalid, exit code 2
    error: invalid value 'seriel:x' for '--for <CONDITION>': invalid wait condition `seriel:x`; did you mean `serial:`?

    For more information, try '--help'.

    usage.invalid, exit code 2
    error: invalid value 'login' for '--wait <CONDITION>': invalid wait condition `login`; use one of `qmp`, `agent`, `boot`, `cloud-init`, `address`, `ssh`, `serial:REGEX`, `port:N`, `event:NAME`, `file:PATH`, `status=STATUS`, `stopped`, `stopped=REASON`, `screen-stable=DURATION`

    For more information, try '--help'.
    ");
}

#[test]
fn test_wait_interrupted_exits_130_and_changes_nothing() {
    let home = home();
    home.json(&["start", "web"]);
    let waiting = home.maqet(["wait", "web", "--for", "serial:login:", "--format", "json"]).spawn();

    wait::until(TIMEOUT, "its care for Ctrl-C", || catches_ctrl_c(waiting.pid()).then_some(()));
    assert!(Command::new("kill").args(["-INT", &waiting.pid().to_string()]).status().unwrap().success());

    let interrupted = waiting.wait().code(130);
    let messages: Vec<Value> = interrupted.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(messages.last(), Some(&json!({ "note": "interrupted" })), "{interrupted}");
    let after = home.json(&["status", "web"]);
    assert_eq!((&after["status"], &after["busy"]), (&json!("running"), &json!(null)));
    home.json(&["stop", "web", "--force"]);
}

/// Returns whether a process handles being interrupted.
fn catches_ctrl_c(pid: u32) -> bool {
    process::catches(pid, 2)
}
