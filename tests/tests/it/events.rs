//! Events of maqet and of QEMU, from any process, including those from times without a maqet process.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use maqet_testkit::{TestHome, guest, wait};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_mins(1);

/// A running `maqet events --follow`; killed when dropped.
struct Follower {
    child: Child,
    reported: PathBuf,
}

impl Follower {
    fn new(home: &TestHome, name: &str, arguments: &[&str]) -> Self {
        Self::of(home, name, &["events"], arguments)
    }

    fn of(home: &TestHome, name: &str, command: &[&str], arguments: &[&str]) -> Self {
        let reported = home.path(name);
        let followed = home.maqet(["--format", "json"]).args(command).args(["--follow"]).args(arguments);
        let mut command = followed.into_command();
        let child = command.stdout(File::create(&reported).unwrap()).spawn().unwrap();
        Self { child, reported }
    }

    fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.reported).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn wait_for(&self, kind: &str) -> Value {
        wait::until(TIMEOUT, kind, || self.events().into_iter().find(|event| event["type"] == kind))
    }

    /// Presses Ctrl-C and returns the exit code.
    fn interrupt(mut self) -> Option<i32> {
        signal("-INT", self.child.id().into());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn signal(signal: &str, pid: i64) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

fn types(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[test]
fn test_events_of_one_run_merge_maqet_and_qemu_in_order() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.add(&guest::paused_yaml("other"));
    home.json(&["start", "web"]);
    home.json(&["resume", "web"]);
    home.json(&["stop", "web", "--timeout", "0s"]);

    let all = home.json(&["events", "web"]);

    let reported = types(&all);
    let at =
        |kind: &str| reported.iter().position(|known| *known == kind).unwrap_or_else(|| panic!("{kind}: {reported:?}"));
    assert!(at("vm.defined") < at("qemu.RESUME") && at("qemu.RESUME") < at("qemu.SHUTDOWN"), "{reported:?}");
    assert!(at("vm.started") < at("vm.resumed") && at("qemu.SHUTDOWN") < at("vm.stopped"), "{reported:?}");
    assert!(all.as_array().unwrap().iter().all(|event| event["vm"] == "web"), "{all}");
    let ours = home.json(&["events", "--type", "VM.*"]);
    assert_eq!(types(&ours), ["vm.defined", "vm.defined", "vm.started", "vm.resumed", "vm.stopped"]);
    assert_eq!(home.json(&["events", "--since", "2999-01-01T00:00:00Z"]), json!([]));
    assert_eq!(home.json_error(&["events", "wep"], 3)["code"], "vm.not-found");
    let mistyped = home.json_error(&["events", "--type", "vm.strated"], 2);
    assert_eq!(mistyped["code"], "events.type-not-found");
    assert!(mistyped["hints"][0].as_str().unwrap().contains("`vm.started`"), "{mistyped}");
    assert!(home.maqet(["events", "--since", "soon"]).run().code(2).stderr.contains("10m"));
}

#[test]
fn test_events_of_removed_vm_are_found_by_name() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["rm", "web"]);

    assert_eq!(types(&home.json(&["events", "web"])), ["vm.defined", "vm.removed"]);
}

#[test]
fn test_events_unobserved_end_is_reported_once_with_reason() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let pid = home.json(&["start", "web"])["pid"].as_i64().unwrap();
    signal("-KILL", pid);
    wait::until(TIMEOUT, "the end", || (home.json(&["status", "web"])["status"] == "stopped").then_some(()));

    home.json(&["events"]);
    let ends = home.json(&["events", "--type", "vm.stopped"]);

    assert_eq!(ends.as_array().unwrap().len(), 1, "{ends}");
    assert_eq!((&ends[0]["data"]["reason"], &ends[0]["data"]["method"]), (&json!("crashed"), &json!("unobserved")));
}

#[test]
fn test_follow_several_clients_see_all_events_until_ctrl_c() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let all = Follower::new(&home, "all.json", &[]);
    let ends = Follower::new(&home, "ends.json", &["web", "--type", "*stop*", "--since", "1h"]);
    // A follower reports events from when it started; a VM defined and removed shows when that is.
    wait::until(TIMEOUT, "the follower", || {
        home.json(&["add", "--empty", "--name", "ping"]);
        home.json(&["rm", "ping"]);
        (!all.events().is_empty()).then_some(())
    });

    let pid = home.json(&["start", "web"])["pid"].as_i64().unwrap();
    all.wait_for("vm.started");
    home.json(&["resume", "web"]);
    all.wait_for("qemu.RESUME");
    signal("-KILL", pid);

    let end = ends.wait_for("vm.stopped");
    all.wait_for("vm.stopped");
    assert_eq!(end["data"]["reason"], "crashed");
    assert!(ends.events().iter().all(|event| event["vm"] == "web"), "{:?}", ends.events());
    assert_eq!(all.interrupt(), Some(130));
    assert_eq!(ends.interrupt(), Some(130));
}

#[test]
fn test_follow_with_closed_output_ends() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let mut command = home.maqet(["events", "--follow", "--since", "1h"]).into_command();
    let mut child = command.spawn().unwrap();

    drop(child.stdout.take());

    let status = wait::until(TIMEOUT, "its end", || {
        home.json(&["add", "--empty", "--name", "ping"]);
        home.json(&["rm", "ping"]);
        child.try_wait().unwrap()
    });
    assert!(status.success(), "{status}");
}

#[test]
fn test_qmp_events_lists_only_qemu_events() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    home.json(&["reset", "web"]);
    home.json(&["stop", "web", "--timeout", "0s"]);

    let all = home.json(&["qmp", "events", "web"]);
    let resets = home.json(&["qmp", "events", "web", "--type", "rese?"]);
    let none = home.json(&["qmp", "events", "web", "--type", "vm.*"]);

    assert_eq!(types(&all), ["qemu.RESET", "qemu.SHUTDOWN"]);
    assert_eq!(types(&resets), ["qemu.RESET"]);
    assert_eq!(resets[0]["data"], json!({"guest": false, "reason": "host-qmp-system-reset"}));
    assert_eq!(none, json!([]));
    assert_eq!(home.json_error(&["qmp", "events", "wep"], 3)["code"], "vm.not-found");
    home.maqet(["qmp", "events"]).run().code(2);
}

#[test]
fn test_follow_count_or_timeout_ends_it() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    home.json(&["resume", "web"]);
    let from_qmp = ["qmp", "events", "web"];

    let mut counted = Follower::of(&home, "c.json", &from_qmp, &["--since", "1h", "--count", "2", "--timeout", "1m"]);
    counted.wait_for("qemu.RESUME");
    home.json(&["pause", "web"]);
    let done = counted.child.wait().unwrap();
    let late = home.json_error(&["qmp", "events", "web", "-f", "--count", "9", "--timeout", "100ms"], 124);
    let left = home.json_error(&["events", "--follow", "--type", "hook.failed", "--timeout", "100ms"], 124);

    assert_eq!(types(&Value::from(counted.events())), ["qemu.RESUME", "qemu.STOP"]);
    assert_eq!(done.code(), Some(0));
    assert_eq!(
        (&late["code"], &late["message"]),
        (&json!("events.timed-out"), &json!("timed out after 100ms: 0 of 9 events occurred"))
    );
    assert_eq!(left["code"], "events.timed-out");
    home.maqet(["events", "--count", "2"]).run().code(2);
    home.json(&["stop", "web", "--force"]);
}
