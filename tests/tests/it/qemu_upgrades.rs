//! Running guests that are put into another QEMU, on the real ones.

use std::fs;
use std::io::{Write, stderr};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_fault_points::{FaultPoint, VARIABLE};
use maqet_testkit::guest::{AfterMarker, BootSector, CountSector};
use maqet_testkit::qemu::{self, Unpacked, emulator, version_of};
use maqet_testkit::{TestHome, guest, port, serial, wait};
use serde_json::{Value, json};

use crate::backups::content;
use crate::live_snapshots::assert_intact;

/// The type of machine that all tested versions have.
const MACHINE: &str = "pc-i440fx-7.2";

/// The emulator of the system (Debian).
const SYSTEM_EMULATOR: &str = "/usr/bin/qemu-system-x86_64";

/// Returns the QEMU beside the one that the tests run on.
fn other_qemu() -> Option<PathBuf> {
    let version = version_of(&emulator());
    let unpacked = Unpacked::found().map(|unpacked| unpacked.emulator());
    let mut all = unpacked.into_iter().chain([PathBuf::from(SYSTEM_EMULATOR)]).filter(|program| program.is_file());
    let found = all.find(|program| version_of(program) != version);
    if found.is_none() {
        // Not `eprintln`, which a test that passes does not show.
        let written = writeln!(stderr(), "SKIPPED: there is no other QEMU (`cargo xtask qemu`)");
        written.unwrap();
    }
    found
}

/// A VM whose guest counts, and writes each number to its drives `one` and `two` before it prints it.
struct Counting {
    home: TestHome,
    logs: Vec<PathBuf>,
}

impl Counting {
    fn start(more: &str) -> Self {
        Self::start_in(TestHome::new(), more)
    }

    fn start_in(home: TestHome, more: &str) -> Self {
        let yaml = CountSector::yaml("web", &CountSector::write(&home), &["one", "two"]);
        home.add(&format!("machine: {MACHINE}\n{yaml}{more}"));
        let started = home.json(&["start", "web"]);
        let log = started["serial_log"].as_str().unwrap().into();
        Self { home, logs: vec![log] }
    }

    /// Returns what the guest has counted, in whatever QEMU it was.
    fn numbers(&self) -> Vec<u16> {
        let texts: Vec<String> = self.logs.iter().map(|log| serial::text(log)).collect();
        CountSector::numbers(&texts.concat())
    }

    /// Waits until it has counted further; returns the last number.
    fn count(&self) -> u16 {
        let now = self.numbers().len();
        let numbers = || Some(self.numbers()).filter(|numbers| numbers.len() > now + 2);
        *wait::until(wait::LONG, "the guest counts", numbers).last().unwrap()
    }

    fn upgrade(&mut self, arguments: &[&str]) -> Value {
        let upgraded = self.home.json(&[&["upgrade", "web"], arguments].concat());
        self.logs.push(upgraded["serial_log"].as_str().unwrap().into());
        upgraded
    }

    /// Asserts that the guest has counted without a gap until now, and that its disks have what it wrote.
    fn assert_whole(self) {
        self.count();
        self.home.json(&["stop", "web", "--force"]);
        let numbers = self.numbers();
        assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{numbers:?}");
        for drive in ["one", "two"] {
            let image = self.home.data().join(format!("storage/web/{drive}.qcow2"));
            let content = content(&self.home, &image);
            assert!(u16::from_le_bytes([content[0], content[1]]) + 1 >= *numbers.last().unwrap(), "{drive}");
            assert_intact(&image);
        }
    }

    fn pid(&self) -> Value {
        self.home.json(&["status", "web"])["pid"].clone()
    }

    /// Asserts that the guest goes on where it was, and that nothing is left of another QEMU.
    fn assert_untouched(&self, pid: &Value) {
        let status = self.home.json(&["status", "web"]);
        assert_eq!((&status["status"], &status["pid"]), (&json!("running"), pid), "{status}");
        assert_eq!(self.home.qemu_pids().len(), 1);
        self.count();
        let locks = fs::read_dir(self.home.data().join("locks")).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(locks.into_iter().all(|lock| !lock.to_string_lossy().ends_with(".next")));
    }
}

/// Returns a program that runs QEMU with more arguments.
fn wrapper(home: &TestHome, name: &str, more: &str) -> String {
    let text = format!("#!/bin/sh\nexec {} \"$@\" {more}\n", emulator().display());
    let path = home.write(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn test_upgrade_to_another_version_and_back_keeps_the_guest() {
    let Some(other) = other_qemu() else { return };
    let mut vm = Counting::start("");
    let (here, there) = (version_of(&emulator()), version_of(&other));
    let (first, before) = (vm.pid(), vm.count());

    let upgraded = vm.upgrade(&["--binary", other.to_str().unwrap()]);

    assert_eq!((&upgraded["from"], &upgraded["to"]), (&json!(here), &json!(there)), "{upgraded}");
    assert_eq!(
        (&upgraded["status"], &upgraded["boot"], &upgraded["method"]),
        (&json!("running"), &json!(2), &json!("copy"))
    );
    assert_eq!(upgraded["binary"], other.to_str().unwrap());
    assert!(upgraded["pid"] != first && upgraded["pid"] == vm.pid(), "{upgraded}");
    assert_eq!(vm.home.qemu_pids().len(), 1);
    assert!(vm.count() > before);
    let machine = vm.home.json(&["qmp", "web", "qom-get", "path=/machine", "property=type"]);
    assert_eq!(machine, format!("{MACHINE}-machine"));

    let back = vm.upgrade(&[]);

    assert_eq!((&back["from"], &back["to"], &back["boot"]), (&json!(there), &json!(here), &json!(3)), "{back}");
    let events = vm.home.maqet(["events", "web", "--type", "vm.upgraded"]).run().ok();
    assert_eq!(events.stdout.matches("vm.upgraded").count(), 2, "{events}");
    vm.assert_whole();
}

/// All that was bound to the first QEMU is that of the other.
#[test]
fn test_upgrade_other_commands_work_with_the_new_qemu() {
    let mut vm = Counting::start("guest: {agent: true}\n");
    let follow = vm.home.maqet(["events", "web", "--follow", "--type", "qemu.RESUME"]);
    let mut follow = follow.spawn();
    vm.count();

    vm.upgrade(&[]);

    follow.wait_for_stdout("RESUME");
    let _ = follow.kill();
    vm.home.json(&["pause", "web"]);
    assert_eq!(vm.home.json(&["status", "web"])["status"], "paused");
    vm.home.json(&["resume", "web"]);
    vm.home.json(&["snapshot", "create", "web", "all", "later", "--live"]);
    vm.count();
    // A guest in an upgraded VM is saved, and cloned, as any other.
    vm.home.json(&["checkpoint", "create", "web", "later"]);
    let migration = vm.home.json(&["qmp", "web", "query-migrate-capabilities"]);
    let on: Vec<&Value> = migration.as_array().unwrap().iter().filter(|one| one["state"] == true).collect();
    assert_eq!(on, [&Value::Null; 0]);
    vm.home.json(&["checkpoint", "rm", "web", "--all"]);
    vm.upgrade(&[]);
    vm.assert_whole();
}

#[test]
fn test_upgrade_forwarded_ports_follow_the_guest() {
    let home = TestHome::new();
    let ports = [port::free(), port::free()];
    let image = BootSector::new("up", AfterMarker::WaitForByte).write(&home);
    let network = format!("network: [{{name: lan, forward: ['{}:22', 'udp:{}:53', '0:80']}}]\n", ports[0], ports[1]);
    home.add(&(BootSector::yaml("web", &image) + &network));
    let before = home.json(&["start", "web"])["forwards"].clone();

    let upgraded = home.json(&["upgrade", "web"]);

    assert_eq!(upgraded["forwards"], before);
    assert_eq!(home.json(&["status", "web"])["forwards"], before);
    assert_eq!(upgraded.get("warnings"), None, "{upgraded}");
    TcpStream::connect(("127.0.0.1", ports[0])).unwrap();
    let usernet = home.maqet(["qmp", "web", "human-monitor-command", "command-line=info usernet"]).run().ok();
    assert_eq!(usernet.stdout.matches("HOST_FORWARD").count(), 3, "{usernet}");
}

#[test]
fn test_upgrade_memory_in_a_shared_file_is_not_copied() {
    let home = TestHome::new();
    let ram = home.path("ram");
    let backend = format!("memory-backend-file,id=ram,size=16M,mem-path={},share=on", ram.display());
    let more = format!("  - {{object: '{backend}'}}\n  - {{machine: memory-backend=ram}}\n");
    let other = other_qemu().unwrap_or_else(emulator);
    let mut vm = Counting::start_in(home, &more);
    vm.count();

    let there = vm.upgrade(&["--binary", other.to_str().unwrap(), "--max-pause", "100ms"]);
    vm.count();
    let back = vm.upgrade(&["--max-pause", "100ms"]);

    assert_eq!((&there["method"], &back["method"]), (&json!("shared-memory"), &json!("shared-memory")), "{there}");
    vm.assert_whole();
}

#[test]
fn test_upgrade_paused_guest_stays_paused() {
    let mut vm = Counting::start("");
    vm.count();
    vm.home.json(&["pause", "web"]);

    let upgraded = vm.upgrade(&[]);

    assert_eq!((&upgraded["status"], &upgraded["boot"]), (&json!("paused"), &json!(2)), "{upgraded}");
    assert_eq!(vm.home.json(&["status", "web"])["status"], "paused");
    vm.home.json(&["resume", "web"]);
    vm.assert_whole();
}

/// Returns the error of an upgrade, after which the guest goes on where it was.
#[track_caller]
fn refused(vm: &Counting, arguments: &[&str], code: &str) -> Value {
    let pid = vm.pid();
    let output = vm.home.maqet(["--format", "json", "upgrade", "web"]).args(arguments).run();
    let error = output.json_error()["error"].clone();
    assert_eq!(error["code"], code, "{error}");
    vm.assert_untouched(&pid);
    error
}

/// After a SIGKILL in any step, the guest is in one of the QEMUs, and has not noticed.
#[test]
fn test_upgrade_killed_at_every_step_leaves_the_guest_in_one_qemu() {
    let mut vm = Counting::start_in(TestHome::with_fault_points(), "");
    let steps = [
        FaultPoint::Locked("upgrade"),
        FaultPoint::Marked("upgrade"),
        FaultPoint::LaunchPathsCreated,
        FaultPoint::LaunchSpawned,
        FaultPoint::LaunchAnswered,
        FaultPoint::UpgradeLaunched,
        FaultPoint::UpgradePaused,
        FaultPoint::UpgradeCopied,
        FaultPoint::UpgradeRecorded,
        FaultPoint::UpgradeResumed,
        FaultPoint::UpgradeEnded,
        FaultPoint::BeforeCommit("upgrade"),
        FaultPoint::Committed("upgrade"),
    ];
    for (number, step) in qemu::ours(steps.into_iter().enumerate()) {
        vm.count();
        let before = vm.pid();

        let killed = vm.home.maqet(["upgrade", "web"]).env(VARIABLE, step.to_string()).run();

        assert_eq!(killed.code, None, "{step}: {killed}");
        let next: &[&str] = if number.is_multiple_of(2) { &["resume", "web"] } else { &["doctor", "--fix"] };
        vm.home.json(next);
        let status = vm.home.json(&["status", "web"]);
        let log = PathBuf::from(status["serial_log"].as_str().unwrap());
        let is_moved = vm.logs.last() != Some(&log);
        if is_moved {
            vm.logs.push(log);
        }
        assert_eq!(is_moved, number >= 8, "{step}: {status}");
        assert_eq!(status["pid"] != before, is_moved, "{step}: {status}");
        vm.assert_untouched(&status["pid"]);
    }
    vm.assert_whole();
}

/// Whatever is wrong with the other QEMU, the guest does not notice.
#[test]
fn test_upgrade_to_a_qemu_that_cannot_take_the_guest_leaves_it() {
    let vm = Counting::start("");
    vm.count();
    for (more, code, part) in [
        ("-cpu Nehalem", "upgrade.machine-conflict", "CPUID"),
        ("-m 32M", "upgrade.machine-conflict", "memory"),
        ("-smp 2", "upgrade.machine-conflict", "2 processors"),
        ("-device virtio-rng-pci", "upgrade.machine-conflict", "devices"),
        ("-device nonsense", "vm.start-failed", "nonsense"),
        // It loads the state, and finds that out.
        ("-machine pc-i440fx-7.1", "upgrade.handover-failed", "goes on where it was"),
    ] {
        let program = wrapper(&vm.home, "qemu-other", more);

        let error = refused(&vm, &["--binary", &program], code);

        assert!(error.to_string().contains(part), "{more}: {error}");
    }
    refused(&vm, &["--binary", "/nonexistent/qemu"], "host.binary-not-found");
    refused(&vm, &["--max-pause", "1ms"], "upgrade.pause-refused");
    vm.assert_whole();
}

/// Nothing has been touched when these are said.
#[test]
fn test_upgrade_of_a_vm_that_stays_with_its_qemu_is_refused() {
    let (tcp, vnc) = (port::free(), port::free());
    let home = TestHome::new();
    let (socket, file) = (home.path("s.sock"), home.path("out.txt"));
    for (more, part) in [
        ("  - {device: 'nvme,serial=a'}\n".to_owned(), "nvme"),
        (format!("  - {{chardev: 'socket,id=c,path={},server=on,wait=off'}}\n", socket.display()), "s.sock"),
        (format!("  - {{chardev: 'file,id=c,path={}'}}\n", file.display()), "out.txt"),
        (format!("  - {{chardev: 'socket,id=c,host=127.0.0.1,port={tcp},server=on,wait=off'}}\n"), "listens at"),
        (format!("  - {{netdev: 'user,id=u,hostfwd=tcp:127.0.0.1:{vnc}-:22'}}\n"), "forwards ports"),
        (format!("  - {{netdev: 'socket,id=u,listen=127.0.0.1:{vnc}'}}\n"), "network"),
    ] {
        let vm = Counting::start(&more);
        vm.count();

        let error = refused(&vm, &[], "upgrade.unsupported");

        assert!(error["message"].as_str().unwrap().contains(part), "{more}: {error}");
        assert!(!error["hints"].as_array().unwrap().is_empty(), "{error}");
    }
}

#[test]
fn test_upgrade_after_a_change_of_the_machine_is_refused() {
    let vm = Counting::start("");
    vm.count();
    let refused = |part: &str| {
        let error = refused(&vm, &[], "upgrade.unsupported");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    };

    vm.home.json(&["apply", "web", "--memory", "32M"]);
    refused("-m 32M");
    vm.home.json(&["apply", "web", "--memory", "16M"]);
    vm.home.json(&["qmp", "device-add", "web", "virtio-rng-pci", "--id", "extra"]);
    refused("extra");
    vm.home.json(&["stop", "web", "--force"]);
    let error = vm.home.json_error(&["upgrade", "web"], 4);
    assert_eq!(error["code"], "upgrade.status-conflict", "{error}");
}

#[test]
fn test_upgrade_of_drives_that_are_thrown_away_is_refused() {
    let home = TestHome::new();
    let disk = home.path("disk.qcow2");
    let created = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("1M").status();
    assert!(created.unwrap().success());
    home.add(&(guest::paused_yaml("web") + &drive(&disk)));
    home.json(&["start", "web"]);
    let unrun = home.json_error(&["upgrade", "web"], 4);
    assert!(unrun["message"].as_str().unwrap().contains("has not run yet"), "{unrun}");
    home.json(&["resume", "web"]);

    let error = home.json_error(&["upgrade", "web"], 4);

    assert_eq!(error["code"], "upgrade.unsupported", "{error}");
    assert!(error["message"].as_str().unwrap().contains("is lost at the end of the run"), "{error}");
}

fn drive(disk: &Path) -> String {
    format!("storage: [{{name: hdd, file: '{}', snapshot: true}}]\n", disk.display())
}

#[test]
fn test_upgrade_of_a_vm_in_the_foreground_is_refused() {
    let home = TestHome::new();
    let image = BootSector::new("up", AfterMarker::WaitForByte).write(&home);
    home.add(&BootSector::yaml("web", &image));
    let mut running = home.maqet(["start", "web", "--foreground"]).spawn();
    running.wait_for_stdout("up");

    let error = home.json_error(&["upgrade", "web"], 4);

    assert_eq!(error["code"], "upgrade.unsupported", "{error}");
    assert!(error["message"].as_str().unwrap().contains("foreground"), "{error}");
    home.json(&["stop", "web", "--force"]);
    let _ = running.wait();
}
