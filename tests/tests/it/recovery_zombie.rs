//! In a container whose first process does not reap orphans, a QEMU process that exited stays a zombie forever.

use std::path::PathBuf;

use maqet_testkit::{TestHome, guest, own_process, wait};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};
use serde_json::json;

fn start(home: &TestHome) -> Pid {
    let pid = home.json(&["start", "web"])["pid"].as_i64().unwrap();
    Pid::from_raw(pid.try_into().unwrap()).unwrap()
}

fn stat(pid: Pid) -> String {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap()
}

#[test]
fn test_qemu_zombie_is_dead_for_every_command() {
    own_process::within("recovery_zombie::test_qemu_zombie_is_dead_for_every_command", || {
        set_child_subreaper(Some(getpid())).unwrap();
        check_zombies();
    });
}

fn check_zombies() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));

    let killed = start(&home);
    kill_process(killed, Signal::KILL).unwrap();
    wait::until(wait::LONG, "the zombie", || stat(killed).contains(") Z ").then_some(()));
    let status = home.json(&["status", "web"]);
    assert_eq!(
        (&status["status"], &status["reason"], &status["pid"]),
        (&json!("stopped"), &json!("crashed"), &json!(null))
    );
    assert_eq!(home.json(&["stop", "web"])["method"], "none");

    let stopped = start(&home);
    assert_eq!(home.json(&["stop", "web"])["method"], "quit");
    let forced = start(&home);
    assert_eq!(home.json(&["stop", "web", "--force"])["method"], "sigkill");
    let removed = start(&home);
    home.json(&["rm", "web", "--force"]);

    for zombie in [killed, stopped, forced, removed] {
        assert!(stat(zombie).contains(") Z "), "{}", stat(zombie));
        waitpid(Some(zombie), WaitOptions::empty()).unwrap();
    }
    assert_eq!(home.stale_files(), Vec::<PathBuf>::new());
}
