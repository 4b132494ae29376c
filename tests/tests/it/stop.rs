//! `stop`: the power button is pressed until the guest reacts, and the output says how the VM ended.

use std::fs::File;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use maqet_testkit::guest::{AfterMarker, BootSector, Files, Shell};
use maqet_testkit::{Maqet, Running, TestHome, guest, parallel, qemu, serial, variable, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// How long a guest may take to boot, and to power off, on a busy host.
const BOOT: Duration = Duration::from_secs(90);

/// How many VMs are stopped at random moments of their boot; the second with `--long`.
const STOPS: usize = 4;
const STOPS_LONG: usize = 200;

/// Defines a VM that boots Linux, with arguments for QEMU.
fn add_linux(home: &TestHome, name: &str, arguments: &str) {
    // A file of its own, as several are added at once.
    let file = home.write(format!("{name}.yaml"), guest::linux_yaml(name, &Files::built()) + arguments);
    home.maqet(["add"]).arg(file).run().ok();
}

/// Starts a VM, and waits until its guest is ready.
fn boot(home: &TestHome, name: &str) -> Value {
    let started = home.json(&["start", name]);
    serial::wait_for(started["serial_log"].as_str().unwrap().as_ref(), guest::READY, BOOT);
    started
}

/// Defines and starts a VM whose guest ignores its power button.
fn start_without_acpi(home: &TestHome, name: &str) -> Value {
    let sector = BootSector::new("up", AfterMarker::Sleep);
    let image = home.write(format!("{name}.img"), sector.image());
    home.add(&BootSector::yaml(name, &image));
    home.json(&["start", name])
}

/// Stops or restarts a VM whose guest may take as long as it needs to power off.
#[track_caller]
fn power_off(home: &TestHome, arguments: [&str; 2]) -> Value {
    patient(home, arguments).run().ok().json_value()
}

/// Prepares such a command.
fn patient(home: &TestHome, arguments: [&str; 2]) -> Maqet {
    home.maqet(arguments).args(["--timeout", "5m", "--format", "json"]).deadline(BOOT * 5)
}

fn presses(home: &TestHome, vm: &str) -> usize {
    home.json(&["events", vm, "--type", "qemu.POWERDOWN"]).as_array().unwrap().len()
}

fn interrupt(running: &Running) {
    kill_process(Pid::from_raw(running.pid().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
}

#[track_caller]
fn check_clean(stopped: &Value) {
    let ending = (&stopped["status"], &stopped["method"], &stopped["reason"]);
    assert_eq!(ending, (&json!("stopped"), &json!("power-down"), &json!("guest-shutdown")), "{stopped}");
}

#[test]
fn test_stop_of_booting_guest_presses_again_until_it_powers_off() {
    let home = TestHome::new();
    add_linux(&home, "web", "");
    home.json(&["start", "web"]);

    // The firmware runs, which ignores the button.
    let stopped = power_off(&home, ["stop", "web"]);

    check_clean(&stopped);
    assert!(stopped["presses"].as_u64() >= Some(2), "{stopped}");
    assert_eq!(json!(presses(&home, "web")), stopped["presses"]);
    assert!(stopped["waited_ms"].as_u64() >= Some(3_000), "{stopped}");
}

#[test]
fn test_restart_of_booting_guest_powers_it_off() {
    let home = TestHome::new();
    add_linux(&home, "web", "");
    home.json(&["start", "web"]);

    let restarted = power_off(&home, ["restart", "web"]);

    assert_eq!((&restarted["method"], &restarted["boot"]), (&json!("power-down"), &json!(2)));
    assert!(restarted["presses"].as_u64() >= Some(2), "{restarted}");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_cleanup_of_booting_orphan_powers_it_off() {
    let home = TestHome::new();
    add_linux(&home, "web", "");
    let started = home.json(&["start", "web"]);
    // It is removed with the orphan.
    let mut log = File::open(started["qmp_log"].as_str().unwrap()).unwrap();
    let database = rusqlite::Connection::open(home.data().join("maqet.db")).unwrap();
    database.execute("DELETE FROM vm", []).unwrap();
    drop(database);

    home.write("config/maqet/maqet.conf", "timeouts: {power_down: 5m}\n");
    let cleanup = home.maqet(["cleanup", "--end-orphans", "--format", "json"]).deadline(BOOT * 5);
    let cleaned = cleanup.run().ok().json_value();

    let mut events = String::new();
    log.read_to_string(&mut events).unwrap();
    assert!(events.contains(r#""reason": "guest-shutdown""#), "{cleaned} {events}");
    assert_eq!(cleaned["items"][0]["method"], "power-down", "{cleaned}");
    assert!(events.matches("POWERDOWN").count() >= 2, "{events}");
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
}

#[test]
fn test_stop_of_guest_without_acpi_reports_a_power_cut() {
    let home = TestHome::new();
    start_without_acpi(&home, "web");

    let stopped = home.maqet(["stop", "web", "--timeout", "5500ms", "--format", "json"]).run().ok();

    let result = stopped.json_value();
    assert_eq!((&result["method"], &result["reason"]), (&json!("quit"), &json!("host-quit")));
    assert_eq!(result["presses"], 2, "{result}");
    assert!(stopped.stderr.contains("the power of `web` was cut") && stopped.stderr.contains("--timeout"), "{stopped}");
}

#[test]
fn test_stop_of_guest_without_acpi_says_so_as_text() {
    let home = TestHome::new();
    start_without_acpi(&home, "web");

    let stopped = home.maqet(["stop", "web", "--timeout", "1s"]).run().ok().stdout;

    let text = "`web` is stopped: its guest did not power off in 1.0 s, so QEMU was asked to quit";
    assert_eq!(stopped.lines().collect::<Vec<_>>(), [text]);
}

/// QEMU keeps running, so only its event and its run state show that the guest is off.
#[test]
fn test_stop_with_no_shutdown_ends_when_the_guest_is_off() {
    let home = TestHome::new();
    add_linux(&home, "web", "  - no-shutdown\n");
    boot(&home, "web");

    let stopped = power_off(&home, ["stop", "web"]);

    check_clean(&stopped);
    assert!(stopped["waited_ms"].as_u64() < Some(30_000), "{stopped}");
    assert_eq!(home.json(&["status", "web"])["reason"], "guest-shutdown");
}

#[test]
fn test_stop_of_guest_that_is_off_does_not_wait() {
    let home = TestHome::new();
    add_linux(&home, "web", "  - no-shutdown\n");
    boot(&home, "web");
    wait::until(BOOT, "the guest to be off", || {
        // A guest that is hardly up may miss it.
        home.json(&["qmp", "web", "system_powerdown"]);
        let is_off = || (home.json(&["status", "web"])["status"] == "stopping").then_some(());
        wait::try_until(Duration::from_secs(5), is_off)
    });
    let before = presses(&home, "web");

    let stopped = power_off(&home, ["stop", "web"]);

    assert_eq!((&stopped["method"], &stopped["reason"]), (&json!("quit"), &json!("guest-shutdown")), "{stopped}");
    assert_eq!((&stopped["presses"], presses(&home, "web")), (&json!(0), before));
    assert!(stopped["waited_ms"].as_u64() < Some(10_000), "{stopped}");
}

#[test]
fn test_stop_of_suspended_guest_wakes_it_first() {
    let home = TestHome::new();
    add_linux(&home, "web", "");
    boot(&home, "web");
    let mut shell = Shell::of(&home);
    shell.run(&["(sleep 1; echo mem >/sys/power/state) &"]);
    wait::until(BOOT, "the guest to be suspended", || {
        (home.json(&["status", "web"])["status"] == "suspended").then_some(())
    });

    let stopped = power_off(&home, ["stop", "web"]);

    check_clean(&stopped);
    assert_ne!(home.json(&["events", "web", "--type", "qemu.WAKEUP"]), json!([]));
}

/// A guest that is paused when the time comes to press again is not pressed, and goes on once it is resumed.
#[test]
fn test_stop_waits_for_a_guest_that_is_paused_meanwhile() {
    let home = TestHome::new();
    add_linux(&home, "web", "");
    home.json(&["start", "web"]);
    let stopping = patient(&home, ["stop", "web"]).spawn();
    wait::until(BOOT, "the first press", || (presses(&home, "web") > 0).then_some(()));
    home.json(&["qmp", "web", "stop"]);
    let before = presses(&home, "web");
    let paused = Instant::now();
    wait::until(BOOT, "two intervals to pass", || (paused.elapsed() > Duration::from_secs(7)).then_some(()));
    let while_paused = presses(&home, "web");
    home.json(&["qmp", "web", "cont"]);

    let stopped = stopping.wait().ok().json_value();

    assert_eq!(while_paused, before);
    check_clean(&stopped);
}

#[test]
fn test_stop_interrupted_reports_the_state_of_the_vm() {
    let home = TestHome::new();
    let pid = start_without_acpi(&home, "web")["pid"].clone();
    let stopping = patient(&home, ["stop", "web"]).spawn();
    wait::until(BOOT, "the power button to be pressed", || (presses(&home, "web") > 0).then_some(()));

    interrupt(&stopping);
    let interrupted = stopping.wait().code(130);

    let error = interrupted.json_error()["error"].clone();
    assert_eq!(error["code"], "vm.stop-interrupted");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("it is running; its power button was pressed"), "{message}");
    assert!(error["hints"].to_string().contains("maqet stop web"), "{error}");
    let status = home.json(&["status", "web"]);
    assert_eq!((&status["status"], &status["pid"], &status["busy"]), (&json!("running"), &pid, &Value::Null));
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_stop_of_several_vms_interrupted_reports_each() {
    let home = TestHome::new();
    for name in ["web", "db"] {
        start_without_acpi(&home, name);
    }
    let stopping = home.maqet(["stop", "web", "db", "--timeout", "55s"]).spawn();
    for name in ["web", "db"] {
        wait::until(BOOT, "the power button to be pressed", || (presses(&home, name) > 0).then_some(()));
    }

    interrupt(&stopping);
    let interrupted = stopping.wait().code(130);

    for name in ["web", "db"] {
        let expected = format!("stop of VM `{name}` interrupted: it is running");
        assert!(interrupted.stderr.contains(&expected), "{interrupted}");
    }
    home.json(&["stop", "--all", "--force"]);
}

/// Returns a QEMU that stops itself before it starts, so that a start takes long.
fn slow_qemu(home: &TestHome) -> PathBuf {
    let script =
        "#!/bin/sh\ncase \" $* \" in *' --version '*) ;; *) kill -STOP $$ ;; esac\nexec qemu-system-x86_64 \"$@\"\n";
    let path = home.write("slow-qemu", script);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[test]
fn test_stop_during_start_offers_force_which_ends_it() {
    let home = TestHome::new();
    home.write("config/maqet/maqet.conf", "timeouts: {lock: 500ms, start: 10m}\n");
    home.add(&format!("{}binary: {}\n", guest::paused_yaml("web"), slow_qemu(&home).display()));
    let starting = home.maqet(["start", "web", "--format", "json"]).spawn();
    wait::until(BOOT, "QEMU", || (home.json(&["status", "web"])["pid"] != Value::Null).then_some(()));

    for command in ["stop", "restart", "rm"] {
        let error = home.json_error(&[command, "web"], 75);
        assert_eq!(error["code"], "lock.in-use", "{command}");
        assert!(error["hints"].to_string().contains("maqet stop --force web"), "{command}: {error}");
    }
    let stopped = home.json(&["stop", "web", "--force"]);

    assert_eq!((&stopped["method"], &stopped["reason"]), (&json!("sigkill"), &json!("host-signal")));
    assert_eq!(starting.wait().code(1).json_error()["error"]["code"], "vm.start-failed");
    assert_eq!(home.json(&["status", "web"])["status"], "defined");
}

/// Returns a number that looks random, and is the same for each run.
fn chance(seed: usize) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(seed)
}

/// Stops a VM at a random moment within `boot` after its start, and returns the number of presses.
fn stop_at_random(home: &TestHome, number: usize, boot: Duration) -> u64 {
    let name = format!("vm{number}");
    add_linux(home, &name, "");
    home.json(&["start", &name]);
    let moment = boot * u32::try_from(chance(number) % 1_000).unwrap() / 1_000;
    let started = Instant::now();
    wait::until(BOOT, "the moment", || (started.elapsed() >= moment).then_some(()));

    let stop = home.maqet(["stop", &name, "--timeout", "5m", "--format", "json"]).deadline(BOOT * 5);
    let stopped = stop.run().ok().json_value();

    check_clean(&stopped);
    home.json(&["rm", &name]);
    stopped["presses"].as_u64().unwrap()
}

#[test]
fn test_stop_at_random_moments_of_boot_cuts_no_guest_off() {
    let _turn = parallel::heavy_turn();
    let count = if variable::is_long() { STOPS_LONG } else { STOPS };
    let stops: Vec<usize> = (0..count).filter(|number| qemu::is_ours(*number)).collect();
    let home = TestHome::new();
    add_linux(&home, "first", "");
    let started = Instant::now();
    boot(&home, "first");
    let booted = started.elapsed().mul_f64(1.2);
    home.json(&["stop", "first", "--force"]);

    let presses = std::sync::Mutex::new(Vec::new());
    parallel::in_threads(2, &stops, |number| {
        let count = stop_at_random(&home, *number, booted);
        presses.lock().unwrap().push(count);
    });

    let presses = presses.into_inner().unwrap();
    let again = presses.iter().filter(|count| **count > 1).count();
    println!(
        "{} stops within {booted:?}: {again} pressed again, at most {:?} presses",
        presses.len(),
        presses.iter().max()
    );
    assert_eq!(presses.len(), stops.len());
}
