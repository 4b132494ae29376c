//! The lifecycle of VMs on real QEMU: pause, reset, restart, many at once, and reasons for an end.

use std::time::Duration;

use maqet_testkit::guest::{AfterMarker, BootSector};
use maqet_testkit::{TestHome, guest, serial, wait};
use serde_json::{Value, json};

/// Adds and starts a VM whose guest prints `marker` once per boot and then waits.
fn started(home: &TestHome, name: &str, marker: &str) -> Value {
    let image = BootSector::new(marker, AfterMarker::Sleep).write(home);
    home.add(&BootSector::yaml(name, &image));
    home.json(&["start", name])
}

#[test]
fn test_pause_and_resume_match_qemu_and_are_repeatable() {
    let home = TestHome::new();
    started(&home, "web", "up");

    let paused = home.json(&["pause", "web"]);
    assert_eq!((&paused["status"], &paused["changed"]), (&json!("paused"), &json!(true)));
    assert_eq!(home.json(&["qmp", "web", "query-status"])["status"], "paused");
    assert_eq!(home.json(&["pause", "web"])["changed"], false);

    let resumed = home.json(&["resume", "web"]);
    assert_eq!((&resumed["status"], &resumed["changed"]), (&json!("running"), &json!(true)));
    assert_eq!(home.json(&["resume", "web"])["changed"], false);
    home.json(&["stop", "web", "--force"]);
    assert_eq!(home.json_error(&["pause", "web"], 4)["code"], "vm.status-conflict");
}

#[test]
fn test_reset_reboots_guest_in_same_process() {
    let home = TestHome::new();
    let before = started(&home, "web", "up-again");
    let log = before["serial_log"].as_str().unwrap().to_owned();
    serial::wait_for(log.as_ref(), "up-again", Duration::from_mins(1));

    let reset = home.json(&["reset", "web"]);

    wait::until(Duration::from_mins(1), "the second boot", || {
        (serial::text(log.as_ref()).matches("up-again").count() >= 2).then_some(())
    });
    assert_eq!(reset["pid"], before["pid"]);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_reset_of_paused_vm_says_that_it_is_still_paused() {
    let home = TestHome::new();
    started(&home, "web", "up");
    home.json(&["pause", "web"]);

    let reset = home.json(&["reset", "web"]);
    let text = home.maqet(["reset", "web"]).run().ok().stdout;

    assert_eq!((&reset["status"], &reset["awaits_resume"]), (&json!("paused"), &json!(true)));
    assert_eq!(home.json(&["qmp", "web", "query-status"])["running"], false);
    assert_eq!(text, "`web` was reset and is still paused; it boots once `maqet resume web` is run\n");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_restart_uses_new_process_and_boot_number() {
    let home = TestHome::new();
    let before = started(&home, "web", "up");

    let again = home.json(&["restart", "web", "--force"]);

    assert_eq!((&again["status"], &again["method"], &again["boot"]), (&json!("running"), &json!("sigkill"), &json!(2)));
    assert_ne!(again["pid"], before["pid"]);
    home.json(&["stop", "web", "--force"]);
    let from_stopped = home.json(&["restart", "web"]);
    assert_eq!((&from_stopped["status"], &from_stopped["method"]), (&json!("running"), &json!("none")));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_start_all_starts_ten_vms() {
    let home = TestHome::new();
    let names: Vec<String> = (0..10).map(|number| format!("vm{number}")).collect();
    for name in &names {
        home.add(&guest::paused_yaml(name));
    }

    let all = home.json(&["start", "--all"]);

    let reported: Vec<&str> = all.as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap()).collect();
    assert_eq!(reported, names);
    assert!(all.as_array().unwrap().iter().all(|vm| vm["status"] == "paused"), "{all}");
    for name in &names {
        assert_eq!(home.json(&["qmp", name, "query-status"])["status"], "prelaunch");
    }
    home.json(&["stop", "--all", "--force"]);
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
}

#[test]
fn test_status_after_host_reboot_shows_reason() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let pid = home.json(&["start", "web"])["pid"].as_i64().unwrap();
    std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    // As after a reboot of the host: the recorded process is of another boot.
    let database = rusqlite::Connection::open(home.data().join("maqet.db")).unwrap();
    database.execute("UPDATE vm SET host_boot = 'an earlier one'", []).unwrap();
    drop(database);

    let status = home.json(&["status", "web"]);

    assert_eq!((&status["status"], &status["reason"]), (&json!("stopped"), &json!("host-reboot")));
    assert_eq!(home.json(&["start", "web"])["boot"], 2);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_status_of_frozen_qemu_is_busy_and_not_dead() {
    let home = TestHome::new();
    let pid = started(&home, "web", "up")["pid"].as_i64().unwrap().to_string();
    std::process::Command::new("kill").args(["-STOP", &pid]).status().unwrap();

    let frozen = home.json(&["status", "web"]);
    let listed = home.json(&["ls"]);
    std::process::Command::new("kill").args(["-CONT", &pid]).status().unwrap();

    assert_eq!((&frozen["status"], &frozen["busy"]["reason"]), (&json!("busy"), &json!("sigstop")));
    assert_eq!(frozen["pid"].to_string(), pid);
    assert_eq!(listed[0]["status"], "busy");
    assert_eq!(home.json(&["status", "web"])["status"], "running");
    home.json(&["stop", "web", "--force"]);
}

/// QEMU is killed while its guest has time to shut down, which must not be reported as a guest shutdown.
#[test]
fn test_stop_of_vm_killed_meanwhile_is_not_a_guest_shutdown() {
    let home = TestHome::new();
    let pid = started(&home, "web", "up")["pid"].as_i64().unwrap().to_string();
    let stopping = home.maqet(["--format", "json", "stop", "web", "--timeout", "50s"]).spawn();
    wait::until(Duration::from_secs(20), "the power button to be pressed", || {
        (home.json(&["events", "web", "--type", "qemu.POWERDOWN"]) != json!([])).then_some(())
    });

    std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
    let stopped = stopping.wait().ok().json_value();

    assert_eq!((&stopped["method"], &stopped["reason"]), (&json!("unobserved"), &json!("crashed")));
    assert_eq!(home.json(&["status", "web"])["reason"], "crashed");
}

#[test]
fn test_stop_force_works_without_lock_files() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    let locks = home.data().join("locks");
    std::fs::remove_dir_all(&locks).unwrap();
    std::fs::write(&locks, "no folder").unwrap();

    let refused = home.json_error(&["stop", "web"], 69);
    let stopped = home.json(&["stop", "web", "--force"]);

    assert_eq!(refused["code"], "lock.failed");
    assert!(refused["hints"].to_string().contains("maqet doctor"), "{refused}");
    assert_eq!((&stopped["method"], &stopped["status"]), (&json!("sigkill"), &json!("stopped")));
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
}
