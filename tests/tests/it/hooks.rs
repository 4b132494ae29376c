//! Hooks: the user's programs that run on events, including events that are found later.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use maqet_testkit::{TestHome, guest, wait};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Writes a script that appends its input and its arguments to the file `received`.
fn script(home: &TestHome) {
    let received = home.path("received");
    let text =
        format!("#!/bin/sh\nread -r event\necho \"$MAQET_VM $MAQET_EVENT $* $event\" >>'{}'\n", received.display());
    let path = home.write("hook.sh", text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn received(home: &TestHome) -> Vec<String> {
    let text = fs::read_to_string(home.path("received")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn add(home: &TestHome, name: &str, hooks: &str) {
    home.add(&format!("{}hooks: {hooks}\n", guest::paused_yaml(name)));
}

#[test]
fn test_hooks_of_vm_receive_its_events_on_stdin() {
    let home = TestHome::new();
    script(&home);
    add(&home, "web", "{vm.*: [./hook.sh, \"a b\"], qemu.RESUME: [./hook.sh]}");
    home.json(&["start", "web"]);
    home.json(&["resume", "web"]);
    home.json(&["stop", "web", "--force"]);
    home.json(&["rm", "web"]);

    let received = received(&home);

    let reported: Vec<String> =
        received.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    let expected = ["vm.defined", "vm.started", "vm.resumed", "qemu.RESUME", "vm.stopped", "vm.removed"];
    assert_eq!(reported, expected.map(|kind| format!("web {kind}")));
    let started: Value = serde_json::from_str(&received[1][received[1].find('{').unwrap()..]).unwrap();
    assert_eq!(
        (&started["type"], &started["vm"], &started["data"]["boot"]),
        (&json!("vm.started"), &json!("web"), &json!(1))
    );
    assert!(received[1].contains(" a b {"), "{}", received[1]);
}

#[test]
fn test_hooks_of_settings_run_for_every_vm_and_unseen_end() {
    let home = TestHome::new();
    script(&home);
    fs::create_dir_all(home.config()).unwrap();
    fs::write(home.config().join("maqet.conf"), "hooks: {vm.stopped: [../hook.sh]}\n").unwrap();
    let program = home.config().join("../hook.sh");
    if !program.exists() {
        fs::copy(home.path("hook.sh"), &program).unwrap();
    }
    home.add(&guest::paused_yaml("web"));
    let pid = home.json(&["start", "web"])["pid"].as_i64().unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    wait::until(TIMEOUT, "the end", || (home.json(&["status", "web"])["status"] == "stopped").then_some(()));
    assert_eq!(received(&home), Vec::<String>::new(), "observing runs no hooks");

    home.json(&["start", "web"]);

    let received = received(&home);
    assert_eq!(received.len(), 1, "{received:?}");
    assert!(received[0].starts_with("web vm.stopped") && received[0].contains("\"crashed\""), "{}", received[0]);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_hook_failing_is_reported_and_fails_nothing() {
    let home = TestHome::new();
    add(&home, "web", "{vm.started: [[/bin/sh, -c, \"echo oops >&2; exit 7\"], [no-such-program]]}");

    let done = home.maqet(["start", "web"]).run().ok();

    assert!(done.stderr.contains("exit code 7") && done.stderr.contains("no-such-program"), "{}", done.stderr);
    let failed = home.json(&["events", "--type", "hook.*"]);
    assert_eq!(failed[0]["data"]["event"], "vm.started", "{failed}");
    let log = fs::read_to_string(failed[0]["data"]["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("oops"), "{log}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(failed[0]["data"]["log"].as_str().unwrap().as_ref()), 0o600);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_hook_hanging_is_killed_with_its_children() {
    let home = TestHome::new();
    fs::create_dir_all(home.config()).unwrap();
    fs::write(home.config().join("maqet.conf"), "timeouts: {hook: 200ms}\n").unwrap();
    let pids = home.path("pids");
    let command = format!("printf 'so %s' far; sleep 600 & echo $! >'{}'; wait", pids.display());
    add(&home, "web", &format!("{{vm.started: [/bin/sh, -c, {}]}}", json!(command)));

    let done = home.maqet(["start", "web"]).run().ok();

    assert!(done.stderr.contains("timed out after 200ms and was killed"), "{}", done.stderr);
    await_end(&pids);
    let log = fs::read_to_string(home.json(&["events", "--type", "hook.*"])[0]["data"]["log"].as_str().unwrap());
    assert!(log.as_ref().unwrap().contains("so far"), "what it printed is not lost: {log:?}");
    home.json(&["stop", "web", "--force"]);
}

/// Waits for the process whose id is in this file to end.
fn await_end(pids: &Path) {
    let sleeper = wait::until(TIMEOUT, "the process", || {
        let text = fs::read_to_string(pids).unwrap_or_default();
        text.strip_suffix('\n').map(str::to_owned)
    });
    wait::until(TIMEOUT, "the end of what the hook started", || {
        let stat = fs::read_to_string(format!("/proc/{sleeper}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
}

/// The hook calls maqet, whose own hook hangs: the outer hook times out first.
#[test]
fn test_hook_of_nested_maqet_is_killed_with_outer_hook() {
    let home = TestHome::new();
    fs::create_dir_all(home.config()).unwrap();
    fs::write(home.config().join("maqet.conf"), "timeouts: {hook: 2s}\n").unwrap();
    let pids = home.path("pids");
    let hangs = json!(["/bin/sh", "-c", format!("sleep 600 & echo $! >'{}'; wait", pids.display())]);
    let resume = home.maqet(["resume", "web"]).into_command();
    let arguments: Vec<String> = std::iter::once(resume.get_program())
        .chain(resume.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    add(&home, "web", &format!("{{vm.started: {}, vm.resumed: {hangs}}}", json!(arguments)));

    let done = home.maqet(["start", "web"]).run().ok();

    assert!(done.stderr.contains("timed out after 2s and was killed"), "{}", done.stderr);
    await_end(&pids);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_hook_stopping_its_vm_works() {
    let home = TestHome::new();
    let maqet = home.maqet(["stop", "web", "--force"]).into_command();
    let arguments: Vec<String> = std::iter::once(maqet.get_program())
        .chain(maqet.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    add(&home, "web", &format!("{{vm.started: {}}}", json!(arguments)));

    let done = home.maqet(["start", "web"]).run().ok();

    assert_eq!(done.stderr, "");
    assert_eq!(home.json(&["status", "web"])["status"], "stopped");
}

#[test]
fn test_hook_unknown_event_type_suggests_similar_one() {
    let home = TestHome::new();
    let file = home.write("vm.yaml", "name: web\nhooks: {vm.strated: [x]}\n");

    let refused = home.json_error(&["add", file.to_str().unwrap()], 2);

    assert_eq!(refused["problems"][0]["path"], "hooks.vm.strated");
    assert!(refused.to_string().contains("vm.started"), "{refused}");
}
