//! Logs within their limits, and on a full disk, with guests and a QEMU that write without end.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use maqet_testkit::guest::{AfterMarker, BootSector, paused_yaml};
use maqet_testkit::{TestHome, namespaces, serial, wait};
use serde_json::{Value, json};

const BOOT: Duration = Duration::from_secs(90);

/// The limit of every log in these tests, and the space that is checked.
const LIMIT: u64 = 256 << 10;
const CHECKED: u64 = 3 * LIMIT;

/// A line of the guest that floods its console.
const LINE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ\n";

fn home() -> TestHome {
    let home = TestHome::new();
    home.write("config/maqet/maqet.conf", "logs: {serial: 256K, qemu: 256K, qmp: 256K, maqet: 64K, boots: 2}\n");
    home
}

/// Starts a guest from a boot sector; returns its status once it has printed its marker.
fn start(home: &TestHome, after: AfterMarker) -> Value {
    let image = BootSector::new("maqet-limits", after).write(home);
    home.add(&without_debug_exit(&image));
    let started = home.json(&["start", "web"]);
    serial::wait_for(started["serial_log"].as_str().unwrap().as_ref(), "maqet-limits", BOOT);
    started
}

/// A VM whose power-off is not taken for the use of the device `isa-debug-exit`.
fn without_debug_exit(image: &Path) -> String {
    BootSector::yaml("web", image)
        .lines()
        .filter(|line| !line.contains("isa-debug-exit"))
        .fold(String::new(), |yaml, line| yaml + line + "\n")
}

fn file(status: &Value, log: &str) -> PathBuf {
    PathBuf::from(status[log].as_str().unwrap())
}

fn length(log: &Path) -> u64 {
    fs::metadata(log).unwrap().len()
}

/// Returns the space that a log takes on the disk.
fn space(log: &Path) -> u64 {
    fs::metadata(log).unwrap().blocks() * 512
}

#[track_caller]
fn wait_for_growth(log: &Path, bytes: u64) {
    let before = length(log);
    wait::until(Duration::from_mins(1), "the log to grow", || (length(log) > before + bytes).then_some(()));
}

/// Asserts that a command bounds a log that is written meanwhile, and after: what it had before is counted.
#[track_caller]
fn check_bounded_by_command(home: &TestHome, log: &Path) {
    let before = length(log);
    home.json(&["qmp", "web", "query-status"]);
    let after = fs::metadata(log).unwrap();
    let dropped = after.len().saturating_sub(after.blocks() * 512);
    assert!(dropped + CHECKED >= before, "of {before} bytes, {dropped} were dropped");
}

/// Sends pairs of `stop` and `cont`, each of which makes an event.
fn make_events(status: &Value, pairs: usize) {
    let socket = UnixStream::connect(status["external_monitor"].as_str().unwrap()).unwrap();
    let mut replies = BufReader::new(socket.try_clone().unwrap()).lines();
    for command in ["qmp_capabilities"].into_iter().chain(["stop", "cont"].into_iter().cycle().take(2 * pairs)) {
        (&socket).write_all(format!("{{\"execute\":\"{command}\"}}\n").as_bytes()).unwrap();
        assert!(replies.any(|line| line.unwrap().contains("\"return\"")), "QEMU has closed its monitor");
    }
}

#[test]
fn test_serial_log_of_flooding_guest_is_bounded_by_any_command() {
    let home = home();
    let log = file(&start(&home, AfterMarker::Flood), "serial_log");
    wait_for_growth(&log, 4 << 20);

    check_bounded_by_command(&home, &log);
    let shown = home.maqet(["logs", "web", "--lines", "100"]).run().ok().stdout;
    let document = home.json(&["logs", "web"]);

    let whole: Vec<&str> = shown.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
    assert!(whole.len() >= 99 && whole[1..].iter().all(|line| *line == LINE), "{} lines", whole.len());
    let text = document["text"].as_str().unwrap();
    assert!(!text.contains('\0') && text.len() as u64 >= LIMIT / 4, "{} bytes", text.len());
    // What was written before is dropped, and positions stay.
    assert!(document["offset"].as_u64().unwrap() > 2 << 20, "{}", document["offset"]);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_serial_log_is_bounded_while_commands_wait_and_follow() {
    let home = home();
    let log = file(&start(&home, AfterMarker::Flood), "serial_log");

    for arguments in [
        &["wait", "web", "--for", "event:GUEST_PANICKED", "--timeout", "5m"][..],
        &["logs", "web", "--follow"],
        &["events", "--follow", "--timeout", "5m"],
        &["console", "web", "--timeout", "5m"],
    ] {
        let running = home.maqet(arguments).spawn();
        wait_for_growth(&log, 3 << 20);
        // Once a second, after which the guest writes on.
        wait::until(wait::LONG, "the log to be bounded", || (space(&log) <= 2 << 20).then_some(()));
        let _killed = running.kill();
    }
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qmp_log_is_bounded_and_still_tells_the_end() {
    let home = home();
    home.add(&paused_yaml("web"));
    let started = home.json(&["start", "web"]);
    let log = file(&started, "qmp_log");

    make_events(&started, 1_800);
    let before = length(&log);
    home.json(&["qmp", "web", "query-status"]);
    let kept = space(&log);
    let events = home.json(&["events", "web", "--type", "qemu.*"]);
    home.json(&["stop", "web"]);

    assert!(before > LIMIT && kept <= LIMIT + (64 << 10), "{kept} of {before} bytes");
    let events = events.as_array().unwrap();
    assert!(events.len() > 500, "{} events", events.len());
    assert_eq!(events.last().unwrap()["type"], "qemu.RESUME");
    let status = home.json(&["status", "web"]);
    assert_eq!((&status["status"], &status["reason"]), (&json!("stopped"), &json!("host-quit")));
    let last = home.json(&["events", "web", "--type", "qemu.SHUTDOWN"]);
    assert_eq!(last.as_array().unwrap().len(), 1);
    // What was reserved for events is given back with the end.
    assert!(space(&log) <= LIMIT + (8 << 10), "{}", space(&log));
}

#[test]
fn test_qmp_log_is_bounded_only_after_hooks_received_its_events() {
    let home = home();
    let received = home.path("received");
    let hook = json!(["/bin/sh", "-c", format!("cat >>'{}'", received.display())]);
    home.add(&format!("{}hooks: {{qemu.POWERDOWN: {hook}}}\n", paused_yaml("web")));
    let started = home.json(&["start", "web"]);
    let log = file(&started, "qmp_log");
    let monitor = UnixStream::connect(started["external_monitor"].as_str().unwrap()).unwrap();
    (&monitor).write_all(b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"system_powerdown\"}").unwrap();
    serial::wait_for(&log, "POWERDOWN", BOOT);
    drop(monitor);
    make_events(&started, 1_800);
    assert!(!received.exists());

    home.json(&["qmp", "web", "query-status"]);

    assert!(space(&log) <= LIMIT + (64 << 10), "{} of {}", space(&log), length(&log));
    let received = fs::read_to_string(received).unwrap_or_default();
    assert_eq!(received.matches("qemu.POWERDOWN").count(), 1, "{received}");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_qemu_log_of_qemu_that_writes_on_is_bounded() {
    let home = home();
    let image = BootSector::new("maqet-limits", AfterMarker::Flood).write(&home);
    // QEMU writes the registers of the CPU, again and again.
    home.add(&(BootSector::yaml("web", &image) + "  - {d: \"cpu,exec,nochain\"}\n"));
    let log = file(&home.json(&["start", "web"]), "qemu_log");
    wait_for_growth(&log, 4 << 20);

    check_bounded_by_command(&home, &log);

    let tail = home.maqet(["logs", "web", "--qemu", "--lines", "50"]).run().ok().stdout;
    assert!(!tail.contains('\0') && tail.lines().count() >= 50);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_maqet_log_and_number_of_boots_follow_settings() {
    let home = home();
    home.add(&paused_yaml("web"));
    for _ in 0..4 {
        home.json(&["start", "web"]);
        home.json(&["stop", "web", "--force"]);
    }
    let status = home.json(&["status", "web"]);
    let journal = file(&status, "serial_log").parent().unwrap().with_file_name("maqet.log");
    let line = "2026-11-29T00:00:00Z start: done in 1 ms\n";
    fs::OpenOptions::new().append(true).open(&journal).unwrap().write_all(line.repeat(4_000).as_bytes()).unwrap();

    home.json_error(&["start", "web", "--timeout", "0s"], 124);

    assert!(length(&journal) <= 64 << 10, "{}", length(&journal));
    assert!(fs::read_to_string(&journal).unwrap().contains("start: failed"));
    let boots = home.json(&["logs", "web", "--qemu"])["boots_kept"].clone();
    assert_eq!(boots.as_array().unwrap().len(), 2, "{boots}");
}

#[test]
fn test_logs_settings_are_checked_and_shown() {
    let home = TestHome::new();
    home.write("config/maqet/maqet.conf", "logs: {serial: 1K, qmp: big, boots: 0, serail: 1M}\n");
    let refused = home.maqet(["ls"]).run().code(2).stderr;
    home.write("config/maqet/maqet.conf", "logs: {serial: 1G, boots: 3}\n");
    let shown = home.json(&["config", "show", "--origin"]);

    for problem in ["the smallest size of a log is 64K", "invalid size `big`", "at least 1", "did you mean `serial`?"] {
        assert!(refused.contains(problem), "{problem}: {refused}");
    }
    let shown = shown.to_string();
    assert!(shown.contains("logs.serial") && shown.contains("1G") && shown.contains("logs.qmp"), "{shown}");
}

/// A home whose state directory is a small file system of its own.
struct SmallDisk {
    home: TestHome,
    filler: PathBuf,
}

impl SmallDisk {
    fn new() -> Self {
        let home = TestHome::new();
        let state = home.state();
        home.mount_tmpfs(&state, "512k");
        let filler = state.join("filler");
        Self { home, filler }
    }

    /// Leaves no space.
    fn fill(&self) {
        let mut filler = fs::OpenOptions::new().append(true).create(true).open(&self.filler).unwrap();
        let full = loop {
            if let Err(error) = filler.write_all(&[0; 512]) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull);
    }
}

#[test]
fn test_start_on_full_disk_says_that_logs_are_lost() {
    namespaces::within("log_limits::test_start_on_full_disk_says_that_logs_are_lost", || {
        let disk = SmallDisk::new();
        let home = &disk.home;
        let image = BootSector::new("maqet-limits", AfterMarker::PowerOffOnByte).write(home);
        home.add(&without_debug_exit(&image));
        disk.fill();

        let started = home.json(&["start", "web"]);
        let shown = home.maqet(["restart", "web", "--force"]).run().ok();
        let console = home.maqet(["console", "web", "--timeout", "10ms"]).run().code(124);

        assert_eq!(started["status"], "running");
        let cause = started["log_failure"]["cause"].as_str().unwrap();
        assert!(cause.contains("No space left on device"), "{cause}");
        assert_eq!(started["log_failure"]["directory"], json!(file(&started, "serial_log").parent().unwrap()));
        let warning = "warning: cannot write events, serial output and QEMU's messages";
        assert!(shown.stderr.contains(warning) && console.stderr.contains(warning), "{shown}{console}");

        // The guest powers off, and nothing can be written about it.
        power_off(home);
        assert_ended(home, "unknown");

        // With space again, all is as usual.
        fs::remove_file(&disk.filler).unwrap();
        let again = home.json(&["start", "web"]);
        assert_eq!(again["log_failure"], Value::Null);
        serial::wait_for(&file(&again, "serial_log"), "maqet-limits", BOOT);
        power_off(home);
        assert_ended(home, "guest-shutdown");
    });
}

/// Starts a VM, fills the disk, has QEMU write pairs of events, and lets the guest power off; returns what is recorded of
/// that.
fn shutdown_events_on_full_disk(disk: &SmallDisk, pairs: usize) -> Value {
    let home = &disk.home;
    let started = start(home, AfterMarker::PowerOffOnByte);
    disk.fill();
    make_events(&started, pairs);
    power_off(home);
    home.json(&["events", "web", "--type", "qemu.SHUTDOWN"])
}

#[test]
fn test_power_off_with_disk_filled_meanwhile_is_recorded() {
    namespaces::within("log_limits::test_power_off_with_disk_filled_meanwhile_is_recorded", || {
        let disk = SmallDisk::new();
        // More than fits the block that the log has anyway.
        let events = shutdown_events_on_full_disk(&disk, 80);

        assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
        assert_ended(&disk.home, "guest-shutdown");
    });
}

#[test]
fn test_power_off_without_any_space_left_is_unknown_and_no_crash() {
    namespaces::within("log_limits::test_power_off_without_any_space_left_is_unknown_and_no_crash", || {
        let disk = SmallDisk::new();
        // More than what was reserved.
        let events = shutdown_events_on_full_disk(&disk, 1_000);

        assert_eq!(events, json!([]));
        assert_ended(&disk.home, "unknown");
    });
}

/// Lets the guest power off, and waits until QEMU is gone.
fn power_off(home: &TestHome) {
    let until = Instant::now() + BOOT;
    while !home.qemu_pids().is_empty() {
        assert!(Instant::now() < until, "the guest does not power off");
        // Without a log, nothing tells when the guest reads, nor whether it has read.
        if let Some(mut line) = serial::Line::try_of(home) {
            let _gone_already = line.write_all(b"x");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[track_caller]
fn assert_ended(home: &TestHome, reason: &str) {
    let status = home.json(&["status", "web"]);
    assert_eq!((&status["status"], &status["reason"]), (&json!("stopped"), &json!(reason)));
}
