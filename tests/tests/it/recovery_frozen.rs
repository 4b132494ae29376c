//! A QEMU that is running but unresponsive: stopped by a signal, frozen, or blocked in its main loop. Every command replies,
//! names the cause, and does not mark the VM as stopped.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use maqet_testkit::cgroup::{Cgroup, Version};
use maqet_testkit::{Running, TestHome, guest, process, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// How long QEMU may take to run a monitor command.
const SOON: Duration = Duration::from_mins(1);

/// A VM with a disk, whose QEMU can be made unresponsive.
struct Unresponsive {
    home: TestHome,
    pid: Pid,
}

impl Unresponsive {
    fn start() -> Self {
        let home = TestHome::new();
        home.add(&(guest::paused_yaml("web") + "storage: [{name: hdd, size: 4M}]\n"));
        let pid = home.json(&["start", "web"])["pid"].as_i64().unwrap();
        Self { home, pid: Pid::from_raw(pid.try_into().unwrap()).unwrap() }
    }

    fn suspend(&self) {
        process::suspend(self.pid.as_raw_nonzero().get().cast_unsigned());
    }

    /// Blocks the main loop: QEMU opens a pipe that has no reader. Returns the pipe, and the command that waits.
    fn block(&self) -> (PathBuf, Running) {
        let pipe = self.home.path("pipe");
        if !pipe.exists() {
            assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        }
        let arguments = json!({"val": 0, "size": 4096, "filename": pipe}).to_string();
        let waiting = self
            .home
            .maqet(["qmp", "web", "pmemsave", "--json", &arguments, "--allow-dangerous", "--timeout", "10m"])
            .deadline(SOON * 10)
            .spawn();
        wait::until(SOON, "the main loop to be blocked", || (self.cause() == "main-loop").then_some(()));
        (pipe, waiting)
    }

    /// Blocks the main loop from the monitor for other programs, so that maqet's own are free. Returns the pipe, and the
    /// connection.
    fn block_from_outside(&self) -> (PathBuf, UnixStream) {
        let pipe = self.home.path("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut monitor = UnixStream::connect(self.status()["external_monitor"].as_str().unwrap()).unwrap();
        let arguments = json!({ "val": 0, "size": 4096, "filename": pipe });
        let commands =
            [json!({ "execute": "qmp_capabilities" }), json!({ "execute": "pmemsave", "arguments": arguments })];
        for command in commands {
            writeln!(monitor, "{command}").unwrap();
        }
        wait::until(SOON, "the main loop to be blocked", || (self.cause() == "main-loop").then_some(()));
        (pipe, monitor)
    }

    fn status(&self) -> Value {
        self.home.json(&["status", "web"])
    }

    fn cause(&self) -> Value {
        self.status()["busy"]["reason"].clone()
    }

    /// Asserts that read-only commands work, and report the VM as busy with the reason.
    #[track_caller]
    fn check_looks(&self, cause: &str) {
        let status = self.status();
        let listed = &self.home.json(&["ls"])[0];
        let inspected = self.home.json(&["inspect", "web"]);

        assert_eq!((&status["status"], &status["busy"]["reason"]), (&json!("busy"), &json!(cause)));
        assert_eq!(status["pid"], self.pid.as_raw_nonzero().get());
        assert_eq!((&listed["status"], &listed["pid"]), (&json!("busy"), &status["pid"]));
        assert_eq!(inspected["pid"], status["pid"]);
        self.home.json(&["info", "web"]);
        assert_eq!(self.home.json(&["snapshot", "ls", "web"]), json!([]));
        let doctor = self.home.maqet(["--format", "json", "doctor"]).run().json_value();
        let found = doctor["findings"].as_array().unwrap().iter().find(|found| found["subject"] == "web");
        assert_eq!(found.unwrap()["severity"], "warning", "{doctor}");
    }

    /// Asserts that a command fails with a temporary error, and returns its message and hints.
    #[track_caller]
    fn check_refused(&self, arguments: &[&str], code: &str) -> String {
        let error = self.home.json_error(arguments, 75);
        assert_eq!(error["code"], code, "{arguments:?}: {error}");
        format!("{} {}", error["message"], error["hints"])
    }

    /// Asserts that commands that need QEMU to reply fail, with the reason.
    #[track_caller]
    fn check_refusals(&self, because: &str) {
        for command in ["start", "pause", "resume", "reset", "rm"] {
            let error = self.check_refused(&[command, "web"], "vm.unresponsive");
            assert!(error.contains(because) && error.contains("maqet stop --force web"), "{command}: {error}");
        }
        let error = self.check_refused(&["snapshot", "create", "web", "hdd", "one"], "vm.unresponsive");
        assert!(error.contains(because), "{error}");
        let waited = self.home.json_error(&["wait", "web", "--for", "qmp", "--timeout", "200ms"], 124);
        assert!(waited["message"].as_str().unwrap().contains(because), "{waited}");
        assert!(waited["hints"].to_string().contains("maqet stop --force web"), "{waited}");
    }

    /// Asserts that the VM, once resumed, is as before.
    #[track_caller]
    fn check_unharmed(&self) {
        let status = wait::until(SOON, "QEMU to answer", || Some(self.status()).filter(|now| now["status"] != "busy"));
        assert_eq!((&status["status"], &status["pid"]), (&json!("paused"), &json!(self.pid.as_raw_nonzero().get())));
        assert_eq!(self.home.json(&["qmp", "web", "query-status"])["status"], "prelaunch");
    }

    #[track_caller]
    fn check_ended_by(&self, arguments: &[&str]) {
        self.home.json(arguments);
        assert_eq!(self.home.qemu_pids(), Vec::<i32>::new());
    }
}

#[test]
fn test_qemu_stopped_by_signal_is_reported_by_all_commands() {
    let vm = Unresponsive::start();
    vm.suspend();

    vm.check_looks("sigstop");
    vm.check_refusals("stopped by a signal");
    for arguments in [&["stop", "web"][..], &["restart", "web"], &["qmp", "web", "query-status"]] {
        let error = vm.check_refused(arguments, "vm.unresponsive");
        assert!(error.contains(&format!("kill -CONT {}", vm.pid.as_raw_nonzero())), "{arguments:?}: {error}");
    }
    vm.check_looks("sigstop");

    kill_process(vm.pid, Signal::CONT).unwrap();
    vm.check_unharmed();
}

#[test]
fn test_qemu_stopped_by_signal_ends_with_force() {
    let vm = Unresponsive::start();
    vm.suspend();

    vm.check_ended_by(&["stop", "web", "--force"]);
    assert_eq!(vm.status()["reason"], "host-signal");

    let pid = vm.home.json(&["start", "web"])["pid"].as_i64().unwrap();
    process::suspend(pid.try_into().unwrap());
    vm.check_ended_by(&["rm", "web", "--force"]);
    assert_eq!(vm.home.json(&["ls"]), json!([]));
}

#[test]
fn test_qemu_blocked_is_reported_by_all_commands() {
    let vm = Unresponsive::start();
    let (pipe, waiting) = vm.block();

    vm.check_looks("main-loop");
    vm.check_refusals("main loop");
    let stop = vm.check_refused(&["stop", "web", "--timeout", "1s", "--quiet"], "vm.busy");
    assert!(stop.contains("writing its disks"), "{stop}");
    // Another command has the monitor.
    vm.check_refused(&["qmp", "web", "query-status", "--timeout", "1s"], "qmp.queue-timed-out");
    vm.check_looks("main-loop");

    assert_eq!(std::fs::read(&pipe).unwrap().len(), 4096);
    let _ = waiting.wait().ok();
    vm.check_unharmed();
}

#[test]
fn test_qemu_blocked_is_the_error_of_device_commands() {
    let vm = Unresponsive::start();
    let (pipe, _monitor) = vm.block_from_outside();
    let iso = vm.home.write("cd.iso", [0; 2048]);
    vm.home.write("config/maqet/maqet.conf", "timeouts: {qmp: 2s}\n");

    let commands = [
        &["qmp", "device-add", "web", "virtio-rng-pci"][..],
        &["qmp", "device-del", "web", "hdd"],
        &["qmp", "eject", "web", "hdd"],
        &["qmp", "insert", "web", "hdd", iso.to_str().unwrap()],
    ];
    for command in commands {
        let error = vm.check_refused(command, "vm.unresponsive");
        assert!(error.contains("main loop") && error.contains("maqet stop --force web"), "{command:?}: {error}");
    }

    assert_eq!(std::fs::read(&pipe).unwrap().len(), 4096);
    vm.check_unharmed();
}

#[test]
fn test_qemu_blocked_ends_with_force() {
    let vm = Unresponsive::start();
    let (_pipe, waiting) = vm.block();

    vm.check_ended_by(&["stop", "web", "--force"]);

    let _ = waiting.wait().code(4);
    assert_eq!(vm.status()["reason"], "host-signal");
    vm.home.json(&["rm", "web"]);
}

/// Makes a cgroup for a test; on a host that has none, reports the test as skipped.
fn cgroup(version: Version, test: &str) -> Option<Cgroup> {
    let cgroup = Cgroup::new(version);
    if cgroup.is_none() {
        // The test passes, and `eprintln!` would be captured.
        let lack = format!("{test} is SKIPPED: cannot make a cgroup of version {version:?}");
        writeln!(std::io::stderr(), "{lack}").expect("standard error can be written");
    }
    cgroup
}

/// Asserts that a frozen cgroup is named as the reason, with the command that thaws it, and that this command works.
fn check_frozen_cgroup(cgroup: &Cgroup, control: &str, thawed: &str) {
    let vm = Unresponsive::start();
    cgroup.add(vm.pid.as_raw_nonzero().get().try_into().unwrap());
    cgroup.freeze();

    vm.check_looks("frozen-cgroup");
    vm.check_refusals("cgroup is frozen");
    let thaw = format!("echo {thawed} >{}", cgroup.folder().join(control).display());
    assert_eq!(vm.status()["busy"]["thaw"], thaw);
    for arguments in [&["stop", "web"][..], &["restart", "web"], &["qmp", "web", "query-status"]] {
        let error = vm.check_refused(arguments, "vm.unresponsive");
        assert!(error.contains(&thaw), "{arguments:?}: {error}");
    }

    assert!(Command::new("sh").args(["-c", &thaw]).status().unwrap().success());
    vm.check_unharmed();
}

#[test]
fn test_qemu_in_frozen_cgroup_names_the_cgroup() {
    let test = "recovery_frozen::test_qemu_in_frozen_cgroup_names_the_cgroup";
    let Some(cgroup) = cgroup(Version::Two, test) else { return };

    check_frozen_cgroup(&cgroup, "cgroup.freeze", "0");
}

#[test]
fn test_qemu_in_frozen_cgroup_of_version_1_names_the_cgroup() {
    let test = "recovery_frozen::test_qemu_in_frozen_cgroup_of_version_1_names_the_cgroup";
    let Some(cgroup) = cgroup(Version::One, test) else { return };

    check_frozen_cgroup(&cgroup, "freezer.state", "THAWED");
}

#[test]
fn test_qemu_in_frozen_cgroup_ends_with_force() {
    let test = "recovery_frozen::test_qemu_in_frozen_cgroup_ends_with_force";
    let Some(cgroup) = cgroup(Version::Two, test) else { return };
    let vm = Unresponsive::start();
    cgroup.add(vm.pid.as_raw_nonzero().get().try_into().unwrap());
    cgroup.freeze();

    vm.check_ended_by(&["stop", "web", "--force"]);
}

/// The kernel delivers no signal to a frozen cgroup of version 1, not even SIGKILL.
#[test]
fn test_qemu_in_frozen_cgroup_of_version_1_ends_once_thawed() {
    let test = "recovery_frozen::test_qemu_in_frozen_cgroup_of_version_1_ends_once_thawed";
    let Some(cgroup) = cgroup(Version::One, test) else { return };
    let vm = Unresponsive::start();
    cgroup.add(vm.pid.as_raw_nonzero().get().try_into().unwrap());
    cgroup.freeze();

    let error = vm.home.json_error(&["stop", "web", "--force"], 1);
    assert_eq!(error["code"], "vm.kill-failed");
    assert!(error["hints"].to_string().contains("freezer.state"), "{error}");

    cgroup.thaw();
    wait::until(SOON, "QEMU to end", || vm.home.qemu_pids().is_empty().then_some(()));
    assert_eq!(vm.status()["status"], "stopped");
}
