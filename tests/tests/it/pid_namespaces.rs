//! VMs of other PID namespaces: containers, `unshare --pid`, the sandbox of a job. A QEMU that is not visible is neither
//! crashed nor started twice, and a number of another namespace is never signaled.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use maqet_testkit::pid_namespace::{self, Container, is_skipped};
use maqet_testkit::{Finished, TestHome, guest, wait};
use rusqlite::Connection;
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_mins(1);

/// A home with a started VM `web`.
fn started() -> TestHome {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    home
}

/// Runs the CLI through `launcher`, with JSON output.
#[track_caller]
fn run(home: &TestHome, launcher: &[OsString], arguments: &[&str]) -> Finished {
    home.maqet(arguments).args(["--format", "json"]).through(launcher).run()
}

/// Returns the code of the error of a command that is refused with this exit code.
#[track_caller]
fn refused(home: &TestHome, launcher: &[OsString], arguments: &[&str], code: i32) -> Value {
    run(home, launcher, arguments).code(code).json_error()["error"]["code"].clone()
}

/// Returns the sockets and locks of the VM's run, which a command that takes the VM for crashed removes.
fn run_files(home: &TestHome) -> Vec<PathBuf> {
    let is_of_run = |path: &PathBuf| path.starts_with(home.runtime()) || path.starts_with(home.data().join("locks"));
    home.files().into_iter().filter(is_of_run).collect()
}

/// Asserts that a VM of another namespace keeps its state, whatever a command without its process does.
#[track_caller]
fn check_shared(launcher: &[OsString]) {
    let home = started();
    let (qemu, files) = (home.qemu_pids(), run_files(&home));

    let status = run(&home, launcher, &["status", "web"]).ok().json_value();
    let list = run(&home, launcher, &["ls"]).ok().json_value();
    let start = run(&home, launcher, &["start", "web"]).ok().json_value();
    let query = run(&home, launcher, &["qmp", "web", "query-status"]).ok().json_value();
    let forced = [&["stop", "web", "--force"][..], &["rm", "web", "--force"], &["restart", "web", "--force"]];
    let forced = forced.map(|arguments| refused(&home, launcher, arguments, 69));
    let plugged = refused(&home, launcher, &["qmp", "device-add", "web", "virtio-rng-pci"], 69);
    let cleanup = run(&home, launcher, &["cleanup"]).ok().json_value();
    run(&home, launcher, &["doctor", "--fix"]).ok();

    assert_eq!((&status["status"], &status["pid"]), (&json!("paused"), &Value::Null), "{status}");
    assert_eq!((&status["pid_namespace"], &list[0]["status"]), (&json!("other"), &json!("paused")), "{list}");
    assert_eq!((&start["changed"], &query["running"]), (&json!(false), &json!(false)));
    assert_eq!(forced.each_ref().map(|code| code.as_str()), [Some("vm.process-unavailable"); 3]);
    assert_eq!((plugged, &cleanup["items"]), (json!("vm.process-unavailable"), &json!([])));
    assert_eq!((home.qemu_pids(), run_files(&home)), (qemu, files));
    let here = home.json(&["status", "web"]);
    assert_eq!((&here["pid"], &here["pid_namespace"]), (&json!(home.qemu_pids()[0]), &Value::Null));
}

#[test]
fn test_pid_namespace_with_own_proc_keeps_vm() {
    if !is_skipped("pid_namespaces") {
        check_shared(&pid_namespace::with_own_proc());
    }
}

#[test]
fn test_pid_namespace_within_another_keeps_vm() {
    if !is_skipped("pid_namespaces") {
        check_shared(&[pid_namespace::with_own_proc(), pid_namespace::with_own_proc()].concat());
    }
}

/// The numbers in `/proc` are not those of system calls there.
#[test]
fn test_pid_namespace_with_outer_proc_keeps_vm() {
    if !is_skipped("pid_namespaces") {
        check_shared(&pid_namespace::with_outer_proc());
    }
}

#[test]
fn test_pid_namespace_with_own_users_keeps_vm() {
    if !is_skipped("pid_namespaces") {
        check_shared(&pid_namespace::with_own_users());
    }
}

#[test]
fn test_pid_namespace_without_sockets_is_unreachable() {
    if is_skipped("pid_namespaces") {
        return;
    }
    let home = started();
    let launcher = pid_namespace::with_hidden(&home.path("run"));
    let (qemu, files) = (home.qemu_pids(), run_files(&home));

    let status = run(&home, &launcher, &["status", "web"]).ok().json_value();
    let commands = [&["start", "web"][..], &["qmp", "web", "query-status"], &["pause", "web"]];
    let unresponsive = commands.map(|arguments| refused(&home, &launcher, arguments, 75));
    let stop = refused(&home, &launcher, &["stop", "web"], 69);
    let rm = refused(&home, &launcher, &["rm", "web"], 75);
    run(&home, &launcher, &["cleanup"]).ok();
    run(&home, &launcher, &["doctor", "--fix"]).ok();

    assert_eq!((&status["status"], &status["pid"]), (&json!("unreachable"), &Value::Null), "{status}");
    assert_eq!(status["busy"], json!({ "reason": "other-pid-namespace" }));
    assert_eq!(unresponsive.each_ref().map(|code| code.as_str()), [Some("vm.unresponsive"); 3]);
    assert_eq!((stop, rm), (json!("vm.process-unavailable"), json!("vm.unresponsive")));
    assert_eq!((home.qemu_pids(), run_files(&home)), (qemu, files));
    assert_eq!(home.json(&["status", "web"])["status"], "paused");
}

/// A version before this one left no lock, and recorded no namespace: the lock of QEMU on its pid file remains.
#[test]
fn test_pid_namespace_vm_of_older_version_is_found() {
    if is_skipped("pid_namespaces") {
        return;
    }
    let home = started();
    let locks = fs::read_dir(home.data().join("locks")).unwrap().map(|entry| entry.unwrap().path());
    let of_qemu = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("qemu-");
    let removed: Vec<PathBuf> = locks.filter(of_qemu).collect();
    for path in &removed {
        fs::remove_file(path).unwrap();
    }
    sql(&home, "UPDATE vm SET pid_namespace = NULL");

    let status = run(&home, &pid_namespace::with_own_proc(), &["status", "web"]).ok().json_value();

    assert_eq!(removed.len(), 1);
    assert_eq!((&status["status"], &status["pid_namespace"]), (&json!("paused"), &json!("other")), "{status}");
}

fn sql(home: &TestHome, statement: &str) {
    Connection::open(home.data().join("maqet.db")).unwrap().execute_batch(statement).unwrap();
}

#[test]
fn test_pid_namespace_recorded_end_does_not_allow_second_qemu() {
    if is_skipped("pid_namespaces") {
        return;
    }
    let home = started();
    sql(&home, "UPDATE vm SET phase = 'ended', end_reason = 'crashed'");
    let (qemu, files) = (home.qemu_pids(), run_files(&home));

    let hidden = refused(&home, &pid_namespace::with_own_proc(), &["start", "web"], 69);
    run(&home, &pid_namespace::with_own_proc(), &["cleanup"]).ok();
    let visible = home.json_error(&["start", "web"], 4);

    assert_eq!((hidden, &visible["code"]), (json!("vm.process-unavailable"), &json!("vm.orphan-conflict")));
    assert_eq!((home.qemu_pids(), run_files(&home)), (qemu, files));
}

#[test]
fn test_container_vm_is_driven_and_killed_by_host() {
    if is_skipped("pid_namespaces") {
        return;
    }
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let container = Container::new();

    let inside = run(&home, &container.launcher(), &["start", "web"]).ok().json_value();
    let host = home.json(&["status", "web"]);
    let qemu = home.qemu_pids();
    let stopped = home.json(&["stop", "web", "--force"]);
    let after = run(&home, &container.launcher(), &["status", "web"]).ok().json_value();

    assert_eq!((&host["status"], &host["pid"]), (&json!("paused"), &json!(qemu[0])), "{host}");
    assert_ne!(inside["pid"], host["pid"], "it has another ID in the container");
    assert_eq!((&stopped["method"], &after["status"]), (&json!("sigkill"), &json!("stopped")), "{after}");
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
}

/// A process of a namespace is visible in those around it, and not in those within it.
#[test]
fn test_namespace_within_container_keeps_vm_of_container() {
    if is_skipped("pid_namespaces") {
        return;
    }
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let container = Container::new();
    let outer = container.launcher();
    let nested = [outer.clone(), pid_namespace::with_own_proc()].concat();
    run(&home, &outer, &["start", "web"]).ok();
    let (qemu, files) = (home.qemu_pids(), run_files(&home));

    let status = run(&home, &nested, &["status", "web"]).ok().json_value();
    let again = run(&home, &nested, &["start", "web"]).ok().json_value();
    let forced = refused(&home, &nested, &["stop", "web", "--force"], 69);
    run(&home, &nested, &["cleanup"]).ok();
    let kept = (home.qemu_pids(), run_files(&home));
    let seen = run(&home, &outer, &["status", "web"]).ok().json_value();
    let stopped = run(&home, &nested, &["stop", "web"]).ok().json_value();

    assert_eq!((&status["status"], &status["pid_namespace"]), (&json!("paused"), &json!("other")), "{status}");
    assert_eq!((&again["changed"], forced), (&json!(false), json!("vm.process-unavailable")));
    assert_eq!(kept, (qemu, files));
    assert_eq!((&seen["status"], &seen["pid_namespace"]), (&json!("paused"), &Value::Null), "{seen}");
    assert_eq!((&stopped["method"], home.qemu_pids().len()), (&json!("quit"), 0), "{stopped}");
}

#[test]
fn test_container_that_ends_stops_its_vm() {
    if is_skipped("pid_namespaces") {
        return;
    }
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let container = Container::new();
    run(&home, &container.launcher(), &["start", "web"]).ok();

    drop(container);

    let stopped = wait::until(TIMEOUT, "the end", || {
        let status = home.json(&["status", "web"]);
        (status["status"] == "stopped").then_some(status)
    });
    assert_eq!(stopped["reason"], "crashed", "{stopped}");
    assert_eq!(home.json(&["start", "web"])["changed"], true);
    home.json(&["stop", "web", "--force"]);
}

/// Siblings see neither each other's processes nor their own numbers in each other.
#[test]
fn test_containers_side_by_side_share_vm() {
    if is_skipped("pid_namespaces") {
        return;
    }
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let (one, other) = (Container::new(), Container::new());
    run(&home, &one.launcher(), &["start", "web"]).ok();

    let again = run(&home, &other.launcher(), &["start", "web"]).ok().json_value();
    let forced = refused(&home, &other.launcher(), &["stop", "web", "--force"], 69);
    let stopped = run(&home, &other.launcher(), &["stop", "web"]).ok().json_value();
    let seen = run(&home, &one.launcher(), &["status", "web"]).ok().json_value();
    let here = run(&home, &other.launcher(), &["start", "web"]).ok().json_value();

    assert_eq!((&again["changed"], &again["pid_namespace"]), (&json!(false), &json!("other")));
    assert_eq!(forced, "vm.process-unavailable");
    assert_eq!((&stopped["method"], &stopped["status"]), (&json!("quit"), &json!("stopped")), "{stopped}");
    assert_eq!((&seen["status"], &seen["reason"]), (&json!("stopped"), &json!("host-quit")), "{seen}");
    assert_eq!((&here["changed"], home.qemu_pids().len()), (&json!(true), 1), "started where it is visible");
    run(&home, &other.launcher(), &["stop", "web", "--force"]).ok();
}

#[test]
fn test_lock_of_other_namespace_excludes_and_is_named() {
    if is_skipped("pid_namespaces") {
        return;
    }
    let home = TestHome::new();
    fs::create_dir_all(home.config()).unwrap();
    fs::write(home.config().join("maqet.conf"), "timeouts: {lock: 200ms}\n").unwrap();
    // Its guest prints nothing and ignores the power button.
    home.add("name: web\naccel: tcg\nmemory: 32M\n");
    home.json(&["start", "web"]);
    let stop = home.maqet(["stop", "web", "--timeout", "1m"]).spawn();
    wait::until(TIMEOUT, "the stop", || (home.json(&["status", "web"])["status"] == "stopping").then_some(()));

    let launcher = pid_namespace::with_own_proc();
    let status = run(&home, &launcher, &["status", "web"]).ok().json_value();
    let list = run(&home, &launcher, &["ls"]).ok().json_value();
    let error = run(&home, &launcher, &["pause", "web"]).code(75).json_error()["error"].clone();
    let _killed = stop.kill();

    assert_eq!((&status["busy"]["reason"], &status["busy"]["pid"]), (&json!("stop"), &Value::Null), "{status}");
    assert_eq!((&status["status"], &list[0]["status"]), (&json!("stopping"), &json!("stopping")), "{list}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("VM `web` is locked by `stop` of a process of another PID namespace since"), "{message}");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_start_without_own_proc_is_refused_and_leaves_nothing() {
    if is_skipped("pid_namespaces") {
        return;
    }
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));

    let code = refused(&home, &pid_namespace::with_outer_proc(), &["start", "web"], 69);

    assert_eq!(code, "host.proc-invalid");
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
    assert_eq!(home.json(&["status", "web"])["status"], "defined");
}
