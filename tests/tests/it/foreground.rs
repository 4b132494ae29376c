//! `start --foreground`: the VM ends with the process that started it, however that ends, and the other way round.

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use maqet_testkit::guest::{AfterMarker, BootSector, Files, GuestAct};
use maqet_testkit::{Finished, Running, TestHome, guest, process, wait};
use rustix::process::{Pid, Signal, kill_process};

/// What the guests of these tests print.
const UP: &str = "the guest is up";

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

fn add(home: &TestHome, after: AfterMarker) {
    let image = BootSector::new(UP, after).write(home);
    home.add(&BootSector::yaml("web", &image));
}

/// Starts `web`, and waits until its guest has printed.
fn start(home: &TestHome, arguments: &[&str]) -> Running {
    let mut running = home.maqet(["start", "web", "--foreground"]).args(arguments).spawn();
    running.wait_for_stdout(UP);
    running
}

/// Defines a VM whose guest does one thing and halts.
fn add_acting(home: &TestHome, name: &str, act: GuestAct, keys: &str) {
    let image = act.write(home, name);
    let drive = format!("  - {{drive: {{file: '{}', format: raw, if: ide}}}}\n", image.display());
    home.add(&format!("name: {name}\naccel: tcg\nmachine: pc\nmemory: 16M\n{keys}arguments:\n{drive}"));
}

fn pid_of_qemu(home: &TestHome) -> u32 {
    home.json(&["status", "web"])["pid"].as_u64().unwrap().try_into().unwrap()
}

#[track_caller]
fn assert_stopped(home: &TestHome, reason: &str) {
    let status = home.json(&["status", "web"]);
    assert_eq!((status["status"].as_str(), status["reason"].as_str()), (Some("stopped"), Some(reason)), "{status}");
    assert_eq!(home.qemu_pids(), [0; 0]);
}

#[test]
fn test_foreground_sigterm_shuts_the_guest_down() {
    let home = TestHome::new();
    home.add(&guest::linux_yaml("web", &Files::built()));
    let started = home.maqet(["start", "web", "--foreground", "--grace", "5m"]).deadline(Duration::from_mins(6));
    let mut running = started.spawn();
    running.wait_for_stdout(guest::READY);

    send(running.pid(), Signal::TERM);
    let ended = running.wait();

    assert_eq!(ended.code, Some(143), "{ended}");
    assert!(ended.stdout.contains("Power down"), "{ended}");
    assert!(ended.stderr.contains("stopping `web`; a second signal kills it"), "{ended}");
    assert_stopped(&home, "guest-shutdown");
}

/// The signals that a terminal, a scheduler or a service manager sends to every process of a job.
#[test]
fn test_foreground_qemu_ignores_signals_of_the_group() {
    let home = TestHome::new();
    add(&home, AfterMarker::Sleep);
    let running = start(&home, &[]);
    let qemu = pid_of_qemu(&home);

    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1, Signal::USR2] {
        send(qemu, signal);
    }
    // QEMU's main loop, in which it would react, has run by the time it has answered twice.
    let answers: Vec<_> = (0..2).map(|_| home.json(&["qmp", "run", "web", "query-status"])["status"].clone()).collect();
    let stopped = home.maqet(["stop", "web", "--timeout", "0s"]).run().ok();
    let ended = running.wait();

    assert_eq!(answers, ["running", "running"]);
    assert_eq!((ended.code, stopped.code), (Some(0), Some(0)), "{ended}");
    assert_stopped(&home, "host-quit");
}

#[test]
fn test_foreground_killed_process_takes_qemu_with_it() {
    let home = TestHome::new();
    add(&home, AfterMarker::Sleep);
    let running = start(&home, &[]);
    let qemu = pid_of_qemu(&home);

    let killed = running.kill();

    assert_eq!(killed.code, None, "{killed}");
    wait::until(wait::LONG, "QEMU to end", || home.qemu_pids().is_empty().then_some(()));
    assert_eq!(home.json(&["status", "web"])["status"], "stopped");
    // Nothing is in the way of the next start.
    let running = start(&home, &[]);
    assert_ne!(pid_of_qemu(&home), qemu);
    send(running.pid(), Signal::INT);
    drop(running.kill());
}

#[test]
fn test_foreground_second_signal_kills_the_guest() {
    let home = TestHome::new();
    add(&home, AfterMarker::Sleep);
    let mut running = start(&home, &["--grace", "1h"]);

    send(running.pid(), Signal::INT);
    running.wait_for_stderr("a second signal kills it");
    send(running.pid(), Signal::INT);
    let ended = running.wait();

    assert_eq!(ended.code, Some(130), "{ended}");
    assert_eq!(home.qemu_pids(), [0; 0]);
}

/// An operation that holds the lock of the VM delays the shutdown, and does not cut the power.
#[test]
fn test_foreground_signal_waits_for_the_lock_of_the_vm() {
    let home = TestHome::new();
    add(&home, AfterMarker::Sleep);
    let mut running = start(&home, &["--grace", "20s"]);
    let locks = std::fs::read_dir(home.path("data/maqet/locks")).unwrap().map(|file| file.unwrap().path());
    let lock = locks.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("vm-"));
    let lock = File::open(lock.last().unwrap()).unwrap();
    lock.lock().unwrap();

    send(running.pid(), Signal::TERM);
    running.wait_for_stderr("trying again");
    drop(lock);
    let ended = running.wait();

    assert_eq!(ended.code, Some(143), "{ended}");
    assert_stopped(&home, "host-quit");
}

#[test]
fn test_foreground_guest_that_ignores_the_button_loses_power() {
    let home = TestHome::new();
    add(&home, AfterMarker::Sleep);
    let running = start(&home, &["--grace", "5s"]);

    send(running.pid(), Signal::HUP);
    let ended = running.wait();

    assert_eq!(ended.code, Some(129), "{ended}");
    assert!(ended.stderr.contains("the power of `web` was cut"), "{ended}");
    assert_stopped(&home, "host-quit");
}

/// The exit code tells what the guest did from what happened to it.
#[test]
fn test_foreground_exit_code_says_how_the_guest_ended() {
    let home = TestHome::new();
    let acts = [
        (GuestAct::PowerOff, "off", "", 0, "the guest powered off"),
        (GuestAct::Panic, "panic", "panic: shutdown\n", 255, "the guest's kernel panicked"),
        (GuestAct::TripleFault, "fault", "args: [-no-reboot]\n", 255, "triple fault"),
    ];
    for (act, name, keys, code, words) in acts {
        add_acting(&home, name, act, keys);

        let ended = home.maqet(["start", "--foreground", name]).run();

        assert_eq!(ended.code, Some(code), "{ended}");
        assert!(ended.stderr.contains(&format!("`{name}` stopped: ")) && ended.stderr.contains(words), "{ended}");
    }
}

#[test]
fn test_foreground_killed_qemu_is_a_failure() {
    let home = TestHome::new();
    add(&home, AfterMarker::Sleep);
    let running = start(&home, &[]);

    process::end(pid_of_qemu(&home));
    let ended = running.wait();

    assert_eq!(ended.code, Some(255), "{ended}");
}

/// What another command does to the VM ends the process without a failure; a VM that was started again runs on.
#[test]
fn test_foreground_ends_with_commands_from_elsewhere() {
    let home = TestHome::new();
    add(&home, AfterMarker::Sleep);

    let running = start(&home, &[]);
    home.maqet(["restart", "--force", "web"]).run().ok();
    let restarted = running.wait();
    let status = home.json(&["status", "web"]);
    home.maqet(["stop", "--force", "web"]).run().ok();

    let running = start(&home, &[]);
    home.maqet(["stop", "--force", "web"]).run().ok();
    let killed = running.wait();

    let running = start(&home, &[]);
    home.maqet(["rm", "--force", "web"]).run().ok();
    let removed = running.wait();

    let codes = [&restarted, &killed, &removed].map(|ended| ended.code);
    assert_eq!(codes, [Some(0); 3], "{restarted}\n{killed}\n{removed}");
    assert!(restarted.stderr.contains("started again by another command"), "{restarted}");
    assert_eq!((status["status"].as_str(), status["boot"].as_u64()), (Some("running"), Some(2)));
    assert!(removed.stderr.contains("`web` was removed"), "{removed}");
}

#[test]
fn test_foreground_of_a_running_vm_is_refused() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.add(&guest::paused_yaml("db"));
    home.json(&["start", "web"]);

    let conflict = home.json_error(&["start", "web", "--foreground"], 4);
    let two = home.json_error(&["start", "web", "db", "--foreground"], 2);

    assert_eq!(conflict["code"], "vm.status-conflict");
    assert_eq!(two["message"], "`--foreground` takes one VM");
    assert_eq!(home.json(&["status", "web"])["status"], "paused");
}

#[test]
fn test_foreground_notifies_the_service_manager() {
    let home = TestHome::new();
    add(&home, AfterMarker::WaitForByte);
    let socket = UnixDatagram::bind(home.path("notify")).unwrap();
    socket.set_read_timeout(Some(wait::LONG)).unwrap();
    let next = || {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };

    let waiting = home.maqet(["start", "web", "--foreground", "--quiet", "--grace", "0s", "--wait"]);
    let running = waiting.arg(format!("serial:{UP}")).env("NOTIFY_SOCKET", home.path("notify")).spawn();
    let states = [next(), next()];
    send(running.pid(), Signal::TERM);
    let stopping = next();
    let ended: Finished = running.wait();

    assert_eq!(states[0], format!("STATUS=`web` started; waiting for `serial:{UP}`"));
    assert_eq!(states[1], "READY=1\nSTATUS=`web` is ready");
    assert_eq!(stopping, "STOPPING=1\nSTATUS=shutting down the guest");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(143), ""), "{ended}");
}

/// A condition that is not met ends the VM, as the process ends.
#[test]
fn test_foreground_unmet_condition_stops_the_vm() {
    let home = TestHome::new();
    add(&home, AfterMarker::Sleep);
    let never = ["start", "web", "--foreground", "--grace", "0s", "--timeout", "2s", "--wait", "serial:never"];

    let ended = home.maqet(never).run();

    assert_eq!(ended.code, Some(124), "{ended}");
    assert_eq!(home.qemu_pids(), [0; 0]);
}

#[test]
fn test_foreground_signal_cancels_a_start() {
    let home = TestHome::new();
    let hanging = home.write(
        "hanging.sh",
        "#!/bin/sh\n[ \"$1\" = --version ] && exec qemu-system-x86_64 --version\ntouch \"${0%/*}/begun\"\nsleep 1000\n",
    );
    std::fs::set_permissions(&hanging, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    home.add(&format!("name: web\naccel: tcg\nbinary: {}\n", hanging.display()));
    let running = home.maqet(["start", "web", "--foreground", "--timeout", "1h"]).spawn();
    wait::until(wait::LONG, "the launch", || home.path("begun").exists().then_some(()));

    send(running.pid(), Signal::TERM);
    let ended = running.wait();

    assert_eq!(ended.code, Some(143), "{ended}");
    assert_eq!(home.json(&["status", "web"])["status"], "defined");
    assert_eq!(home.processes(), []);
}

#[test]
fn test_foreground_json_is_one_document_at_the_end() {
    let home = TestHome::new();
    add_acting(&home, "web", GuestAct::PowerOff, "");

    let ended = home.maqet(["start", "web", "--foreground", "--format", "json"]).run().ok().json_value();

    assert_eq!((ended["status"].as_str(), ended["reason"].as_str()), (Some("stopped"), Some("guest-shutdown")));
}
