//! The lifecycle of VMs on real QEMU: pause, reset, restart, many at once, and reasons for an end.

use std::fs;
use std::time::{Duration, Instant};

use maqet_testkit::guest::{AfterMarker, BootSector, Files, Shell};
use maqet_testkit::{TestHome, guest, process, serial, wait};
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
fn test_start_paused_boots_guest_only_after_resume() {
    let home = TestHome::new();
    let image = BootSector::new("booted", AfterMarker::Sleep).write(&home);
    home.add(&BootSector::yaml("web", &image));

    let started = home.json(&["start", "web", "--paused"]);

    assert_eq!((&started["status"], &started["reason"]), (&json!("paused"), &json!("started-paused")));
    assert_eq!(home.json(&["qmp", "web", "query-status"])["status"], "prelaunch");
    let log = started["serial_log"].as_str().unwrap();
    assert_eq!(serial::text(log.as_ref()), "");
    home.json(&["resume", "web"]);
    serial::wait_for(log.as_ref(), "booted", Duration::from_mins(1));
    home.json(&["stop", "web", "--force"]);
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
    home.json(&["start", "web"]);
    process::end(home.qemu_pids()[0].try_into().unwrap());
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
    process::resume(pid.parse().unwrap());

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
    wait::until(wait::LONG, "the power button to be pressed", || {
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
    fs::remove_dir_all(&locks).unwrap();
    fs::write(&locks, "no folder").unwrap();

    let refused = home.json_error(&["stop", "web"], 69);
    let stopped = home.json(&["stop", "web", "--force"]);

    assert_eq!(refused["code"], "lock.failed");
    assert!(refused["hints"].to_string().contains("maqet doctor"), "{refused}");
    assert_eq!((&stopped["method"], &stopped["status"]), (&json!("sigkill"), &json!("stopped")));
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
}

/// Boots Linux, and returns its shell.
fn booted(home: &TestHome, name: &str) -> Shell {
    home.add(&guest::linux_yaml(name, &Files::built()));
    let started = home.json(&["start", name]);
    serial::wait_for(started["serial_log"].as_str().unwrap().as_ref(), guest::READY, Duration::from_secs(90));
    Shell::of(home)
}

/// Returns how far the system's clock and the real-time clock of a guest are ahead of the host's, in milliseconds: at least
/// and at most, as the guest is asked for a while, and answers in whole seconds.
fn clocks(shell: &mut Shell) -> [(i64, i64); 2] {
    let now = || maqet_domain::Timestamp::now().as_millisecond();
    let before = now();
    // Both are printed as seconds since 1970.
    let read_rtc = "cat /sys/class/rtc/rtc0/since_epoch";
    let output = shell.run(&["echo sys=$(date +%s)", &format!("echo rtc=$({read_rtc})")]);
    let after = now();
    ["sys=", "rtc="].map(|key| {
        let value = output.lines().find_map(|line| line.trim().strip_prefix(key)?.parse::<i64>().ok());
        let seconds = value.unwrap_or_else(|| panic!("no {key}: {output}"));
        (seconds * 1_000 - after, (seconds + 1) * 1_000 - before)
    })
}

/// The clock of the guest's system stops with the guest; its real-time clock does not.
#[test]
fn test_resume_tells_how_far_the_guest_clock_is_behind() {
    let home = TestHome::new();
    let mut shell = booted(&home, "web");
    let [system_before, _] = clocks(&mut shell);
    assert_eq!(home.json(&["status", "web"])["clock_behind_ms"], Value::Null);

    home.json(&["pause", "web"]);
    let paused = Instant::now();
    wait::until(Duration::from_mins(1), "the pause", || (paused.elapsed() > Duration::from_secs(8)).then_some(()));
    let resumed = home.json(&["resume", "web"]);
    let [system, rtc] = clocks(&mut shell);

    let behind = resumed["clock_behind_ms"].as_i64().unwrap();
    let lost = (system_before.0 - system.1 - 500)..(system_before.1 - system.0 + 500);
    assert!(lost.contains(&behind) && behind >= 7_500, "{lost:?} {behind}");
    assert!(rtc.1 >= -5_000, "{rtc:?}");
    assert_eq!(home.json(&["status", "web"])["clock_behind_ms"], behind);
    let status = home.maqet(["status", "web"]).run().ok().stdout;
    assert!(status.contains("the guest's clock is ") && status.contains(" s behind"), "{status}");

    // What the text of `resume` advises helps, and a guest that boots reads its real-time clock.
    shell.run(&["hwclock --hctosys"]);
    assert!(clocks(&mut shell)[0].1 >= -5_000);
    home.json(&["reset", "web"]);
    assert_eq!(home.json(&["status", "web"])["clock_behind_ms"], Value::Null);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_resume_as_text_advises_to_set_the_clock() {
    let home = TestHome::new();
    started(&home, "web", "up");
    home.json(&["pause", "web"]);
    let paused = Instant::now();
    wait::until(Duration::from_mins(1), "the pause", || {
        (paused.elapsed() > Duration::from_millis(1_200)).then_some(())
    });

    let resumed = home.maqet(["resume", "web"]).run().ok().stdout;

    assert!(resumed.starts_with("`web` is running; its guest's clock is "), "{resumed}");
    assert!(resumed.contains("`hwclock --hctosys`"), "{resumed}");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_start_leaves_nothing_to_read_on_standard_input() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));

    let pid = home.json(&["start", "web"])["pid"].as_u64().unwrap();

    // A guest with `-nographic` would get it as typed.
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/0")).unwrap();
    let position = info.lines().find_map(|line| line.strip_prefix("pos:")).unwrap().trim().to_owned();
    let length = fs::metadata(format!("/proc/{pid}/fd/0")).unwrap().len();
    assert_eq!(position, length.to_string());
    home.json(&["stop", "web", "--force"]);
}
