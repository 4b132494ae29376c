//! Every way a VM can end or halt, on real QEMU: `status`, `ls`, events, `wait` and the exit codes say the same.
//!
//! The table of docs/reference/states.md, row by row.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use maqet_domain::qmp::versions::Difference;
use maqet_testkit::guest::{self, Files, GuestAct, Shell};
use maqet_testkit::{TestHome, namespaces, wait};
use serde_json::{Value, json};

use crate::versions;

/// Longer than a boot sector needs on a busy host, with all of them at once.
const DEADLINE: Duration = Duration::from_mins(1);

/// One way to end or halt.
struct Case {
    name: &'static str,
    act: GuestAct,
    /// More keys of the definition, under `arguments`.
    arguments: &'static [&'static str],
    /// Another key of the definition.
    key: &'static str,
    /// What is done to the VM once its guest runs.
    done: fn(&TestHome, &str),
    status: &'static str,
    reason: Option<&'static str>,
    /// A part of the details, as text output shows them.
    details: &'static str,
}

impl Case {
    /// A guest that ends or halts without a command.
    const fn guest(name: &'static str, act: GuestAct, arguments: &'static [&'static str]) -> Self {
        let done: fn(&TestHome, &str) = |_, _| {};
        Self { name, act, arguments, key: "", done, status: "stopped", reason: None, details: "" }
    }

    /// A guest that does nothing, and something that is done to its VM.
    const fn host(name: &'static str, done: fn(&TestHome, &str)) -> Self {
        Self { done, ..Self::guest(name, GuestAct::Halt, &[]) }
    }

    const fn is(self, status: &'static str, reason: &'static str) -> Self {
        Self { status, reason: Some(reason), ..self }
    }

    const fn with(self, details: &'static str) -> Self {
        Self { details, ..self }
    }

    const fn having(self, key: &'static str) -> Self {
        Self { key, ..self }
    }

    fn yaml(&self, home: &TestHome) -> String {
        let image = self.act.write(home, self.name);
        let image = image.display();
        let more: String = self.arguments.iter().fold(String::new(), |more, argument| more + "  - " + argument + "\n");
        format!(
            "name: {}\naccel: tcg\nmemory: 16M\n{}\narguments:\n  - {{drive: {{file: \"{image}\", format: raw, if: ide}}}}\n{more}",
            self.name, self.key,
        )
    }

    /// Whether `wait --for stopped` takes the end for a success.
    fn is_orderly(&self) -> bool {
        ["guest-shutdown", "guest-reset", "debug-exit", "host-reset", "host-quit", "host-signal"]
            .map(Some)
            .contains(&self.reason)
    }
}

const NO_REBOOT: &str = "no-reboot";
const IB700: &str = "{device: ib700}";
const PVPANIC: &str = "{device: pvpanic}";

/// A disk that is full: QEMU's test driver fails every write as a full disk of the host does.
const FULL_DISK: &[&str] = &[
    "{blockdev: {driver: blkdebug, node-name: data, image.driver: null-co, image.size: 8388608, inject-error.0.event: none, \
     inject-error.0.iotype: write, inject-error.0.errno: 28}}",
    "{device: {virtio-blk-pci: null, drive: data}}",
];

fn cases() -> Vec<Case> {
    vec![
        Case::guest("power-off", GuestAct::PowerOff, &[]).is("stopped", "guest-shutdown"),
        Case::guest("reset", GuestAct::Reset, &[NO_REBOOT]).is("stopped", "guest-reset"),
        Case::guest("reset-by-action", GuestAct::Reset, &["{action: {reboot: shutdown}}"]).is("stopped", "guest-reset"),
        Case::guest("triple-fault", GuestAct::TripleFault, &[NO_REBOOT]).is("stopped", "triple-fault"),
        Case::guest("panic", GuestAct::Panic, &[]).having("panic: true").is("stopped", "guest-panic"),
        Case::guest("dog-off", GuestAct::LeaveWatchdog, &[])
            .having("watchdog: {model: ib700, action: poweroff}")
            .is("stopped", "watchdog")
            .with("action `poweroff`"),
        Case::guest("dog-reset", GuestAct::LeaveWatchdog, &[IB700, NO_REBOOT])
            .is("stopped", "watchdog")
            .with("action `reset`"),
        Case::guest("debug-exit", GuestAct::DebugExit, &["{device: {isa-debug-exit: null, iobase: \"0xf4\"}}"])
            .is("stopped", "debug-exit"),
        Case::host("host-reset", |home, vm| {
            assert_eq!(home.json(&["reset", vm])["status"], "stopped");
        })
        .having("args: [-no-reboot]")
        .is("stopped", "host-reset"),
        Case::host("quit", |home, vm| drop(home.json(&["qmp", vm, "quit"]))).is("stopped", "host-quit"),
        Case::host("stop-now", |home, vm| drop(home.json(&["stop", vm, "--timeout", "0s"]))).is("stopped", "host-quit"),
        Case::host("stop-force", |home, vm| drop(home.json(&["stop", vm, "--force"]))).is("stopped", "host-signal"),
        Case::host("sigterm", |home, vm| signal(home, vm, "TERM"))
            .is("stopped", "host-signal")
            .with("SIGTERM from process"),
        Case::host("sighup", |home, vm| signal(home, vm, "HUP"))
            .is("stopped", "host-signal")
            .with("SIGHUP from process"),
        Case::host("sigkill", |home, vm| signal(home, vm, "KILL")).is("stopped", "crashed"),
        Case::host("sigsegv", |home, vm| signal(home, vm, "SEGV")).is("stopped", "crashed"),
        Case::host("sigabrt", |home, vm| signal(home, vm, "ABRT")).is("stopped", "crashed"),
        Case::host("pause", |home, vm| drop(home.json(&["pause", vm]))).is("paused", "request"),
        Case::guest("started-paused", GuestAct::Halt, &["S"]).is("paused", "started-paused"),
        Case::guest("dog-pause", GuestAct::LeaveWatchdog, &[])
            .having("watchdog: {model: ib700, action: pause}")
            .is("paused", "watchdog")
            .with("action `pause`"),
        Case::guest("panic-pause", GuestAct::Panic, &[PVPANIC, "{action: {panic: pause}}"])
            .is("panicked", "guest-panic"),
        Case::guest("suspend", GuestAct::Suspend, &[]).is("suspended", "guest-suspend"),
        Case::guest("off-and-stays", GuestAct::PowerOff, &["no-shutdown"]).is("stopping", "guest-shutdown"),
        Case::guest("full-disk", GuestAct::WriteDisk, FULL_DISK)
            .is("io-error", "no-space")
            .with("drive `data`, write: No space left on device"),
        Case { status: "running", ..Case::guest("loop", GuestAct::Reset, &[]) },
        Case { status: "busy", ..Case::host("frozen", |home, vm| signal(home, vm, "STOP")) },
    ]
}

fn signal(home: &TestHome, vm: &str, name: &str) {
    let pid = home.json(&["status", vm])["pid"].to_string();
    let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap();
    assert!(sent.success(), "kill -{name} {pid}");
}

/// Waits until `status` shows the state and the reason of a case; returns it.
fn reached(home: &TestHome, case: &Case) -> Value {
    let mut last = Value::Null;
    let expected = (json!(case.status), case.reason.map_or(Value::Null, |reason| json!(reason)));
    let reached = wait::try_until(DEADLINE, || {
        last = home.json(&["status", case.name]);
        let is_looping = case.name != "loop" || last["resets"].as_u64() >= Some(2);
        ((last["status"].clone(), last["reason"].clone()) == expected && is_looping).then(|| last.clone())
    });
    reached.unwrap_or_else(|| panic!("{}: expected {expected:?}, found {last:#}", case.name))
}

#[test]
fn test_every_way_to_end_or_halt_has_one_reason() {
    let home = TestHome::new();
    let cases = cases();
    assert!(cases.len() >= 15);
    for case in &cases {
        home.add(&case.yaml(&home));
    }
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    // A guest that acts at once would end its QEMU before the start of so many is over.
    home.json(&[&["start", "--paused"], names.as_slice()].concat());
    for case in cases.iter().filter(|case| case.reason != Some("started-paused")) {
        home.json(&["qmp", "run", case.name, "cont"]);
        (case.done)(&home, case.name);
    }

    let seen: Vec<Value> = cases.iter().map(|case| reached(&home, case)).collect();

    let listed = home.json(&["ls"]);
    let table = home.maqet(["ls"]).run().ok().stdout;
    for (case, status) in cases.iter().zip(&seen) {
        check_listed(case, status, &listed, &table);
        check_text(&home, case);
        check_events(&home, case);
        match case.status {
            "stopped" => check_wait_for_end(&home, case),
            _ => check_wait_for_halt(&home, case),
        }
    }
    signal(&home, "frozen", "CONT");
    home.json(&["stop", "--all", "--force"]);
    assert_eq!(home.qemu_pids(), Vec::<i32>::new());
}

#[track_caller]
fn check_listed(case: &Case, status: &Value, listed: &Value, table: &str) {
    let one = listed.as_array().unwrap().iter().find(|vm| vm["name"] == case.name).unwrap();
    assert_eq!((&one["status"], &one["reason"]), (&status["status"], &status["reason"]), "{}", case.name);
    assert_eq!(one["pid"].is_null(), case.status == "stopped", "{}: {one}", case.name);
    let line = table.lines().find(|line| line.starts_with(&format!("{} ", case.name))).unwrap();
    let expected = case.reason.map_or(case.status.to_owned(), |reason| format!("{} ({reason})", case.status));
    assert!(line.contains(&expected), "{}: {line}", case.name);
}

#[track_caller]
fn check_text(home: &TestHome, case: &Case) {
    let text = home.maqet(["status", case.name]).run().ok().stdout;
    assert!(text.contains(case.details), "{}: {text}", case.name);
    let hint = match case.reason {
        Some("no-space") => "free space on the host, then run `maqet resume full-disk`; nothing is lost",
        Some("guest-suspend") => "wake it with `maqet resume suspend`",
        Some("guest-panic") if case.status == "panicked" => "reset it with `maqet reset panic-pause`",
        _ if case.name == "loop" => "times since the start",
        _ => "",
    };
    assert!(text.contains(hint), "{}: {text}", case.name);
}

#[track_caller]
fn check_events(home: &TestHome, case: &Case) {
    let events = home.json(&["events", case.name]).as_array().unwrap().clone();
    let ends: Vec<&Value> = events.iter().filter(|event| event["type"] == "vm.stopped").collect();
    if case.status == "stopped" {
        assert_eq!(ends.len(), 1, "{}: {events:#?}", case.name);
        assert_eq!(ends[0]["data"]["reason"].as_str(), case.reason, "{}", case.name);
        assert!(case.details.is_empty() || ends[0]["data"]["details"].is_object(), "{}: {}", case.name, ends[0]);
    } else {
        assert!(ends.is_empty(), "{}: {events:#?}", case.name);
    }
}

#[track_caller]
fn check_wait_for_end(home: &TestHome, case: &Case) {
    let reason = case.reason.unwrap();
    let expected = format!("stopped={reason}");
    for condition in [expected.as_str(), "stopped=any"] {
        assert_eq!(home.json(&["wait", case.name, "--for", condition])["reason"], reason, "{}", case.name);
    }
    if case.is_orderly() {
        assert_eq!(home.json(&["wait", case.name, "--for", "stopped"])["reason"], reason, "{}", case.name);
    } else {
        let failed = home.json_error(&["wait", case.name, "--for", "stopped"], 1);
        assert_eq!(failed["code"], "wait.run-failed", "{}: {failed}", case.name);
        assert!(failed["message"].as_str().unwrap().contains(case.details), "{failed}");
    }
    let other = if reason == "host-reboot" { "stopped=host-quit" } else { "stopped=host-reboot" };
    assert_eq!(home.json_error(&["wait", case.name, "--for", other], 1)["code"], "wait.run-failed", "{}", case.name);
    assert_eq!(home.json_error(&["wait", case.name, "--for", "qmp"], 4)["code"], "wait.vm-unavailable");
}

#[track_caller]
fn check_wait_for_halt(home: &TestHome, case: &Case) {
    let condition = format!("status={}", case.status);
    assert_eq!(home.json(&["wait", case.name, "--for", &condition])["status"], case.status, "{}", case.name);
    let until_end = |timeout| ["wait", case.name, "--for", "stopped", "--timeout", timeout];
    if case.status == "panicked" {
        // It fails at once; a busy host needs time to look.
        assert_eq!(home.json_error(&until_end("1m"), 4)["code"], "wait.vm-unavailable", "{}", case.name);
        return;
    }
    let failed = home.json_error(&until_end("1200ms"), 124);
    let message = failed["message"].as_str().unwrap();
    let expected = case.reason.map_or(String::new(), |_| format!("it is {}", case.status));
    assert!(message.contains(&expected) && message.contains(case.details), "{}: {failed}", case.name);
}

/// Runs a program that has to succeed.
#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// A file system of the host that is full, and then has space again.
#[test]
fn test_resume_on_full_disk_fails_until_there_is_space() {
    namespaces::within_mounts("ending::test_resume_on_full_disk_fails_until_there_is_space", || {
        let home = TestHome::new();
        let full = home.path("full");
        fs::create_dir(&full).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=1m", "none", full.to_str().unwrap()]);
        fs::File::create(full.join("data.raw")).unwrap().set_len(8 << 20).unwrap();
        let boot = GuestAct::WriteDisk.write(&home, "boot");
        home.add(&format!(
            "name: web\naccel: tcg\nmemory: 16M\nstorage:\n  - {{name: boot, type: raw, file: {}, interface: ide}}\n  \
             - {{name: data, type: raw, file: {}, werror: enospc}}\n",
            boot.display(),
            full.join("data.raw").display(),
        ));
        home.json(&["start", "web", "--wait", "status=io-error"]);

        let failed = home.json_error(&["resume", "web"], 1);
        let started = home.json_error(&["start", "web"], 4);
        let waited = home.json_error(&["wait", "web", "--for", "port:22", "--timeout", "100ms"], 2);

        assert_eq!(failed["code"], "vm.resume-failed");
        let hint = "free space on the host, then run `maqet resume web`; nothing is lost";
        assert_eq!(failed["hints"], json!([hint]));
        assert!(
            failed["message"].as_str().unwrap().contains("drive `data`, write: No space left on device"),
            "{failed}"
        );
        assert!(started["hints"][0].as_str().unwrap().contains("maqet resume web"), "{started}");
        assert_eq!(waited["code"], "wait.forward-not-found");
        let events = home.json(&["events", "web", "--type", "vm.resumed"]);
        assert_eq!(events, json!([]));

        run("mount", &["-o", "remount,size=20m", full.to_str().unwrap()]);
        let resumed = home.json(&["resume", "web"]);

        assert_eq!((&resumed["status"], &resumed["changed"]), (&json!("running"), &json!(true)));
        wait::until(DEADLINE, "the guest to write its disk", || {
            use std::os::unix::fs::MetadataExt;
            (fs::metadata(full.join("data.raw")).unwrap().blocks() * 512 >= 4 << 20).then_some(())
        });
        home.json(&["stop", "web", "--force"]);
        run("umount", &[full.to_str().unwrap()]);
    });
}

/// Without its QMP log, as on a full disk, QEMU is asked which drive failed.
#[test]
fn test_status_of_full_disk_without_log_names_the_drive() {
    let home = TestHome::new();
    let case = Case::guest("web", GuestAct::WriteDisk, FULL_DISK).is("io-error", "no-space");
    home.add(&case.yaml(&home));
    let log = home.json(&["start", "web"])["qmp_log"].as_str().unwrap().to_owned();
    reached(&home, &case);
    fs::write(&log, "").unwrap();

    let status = home.json(&["status", "web"]);
    let doctor = home.maqet(["doctor", "--format", "json"]).run().json_value();

    assert_eq!((&status["reason"], &status["details"]), (&json!("no-space"), &json!({ "drive": "data" })));
    let found = doctor["findings"].as_array().unwrap().iter().find(|found| found["subject"] == "web").unwrap();
    assert_eq!(found["hint"], status["hint"], "{found}");
    home.json(&["stop", "web", "--force"]);
}

/// Linux suspends itself, is woken by `resume`, and goes on where it was.
#[test]
fn test_linux_guest_that_suspends_is_woken_by_resume() {
    let home = TestHome::new();
    home.add(&guest::linux_yaml("web", &Files::built()));
    let started = home.json(&["start", "web", "--wait", "serial:maqet-guest: ready", "--timeout", "2m"]);
    let mut shell = Shell::of(&home);
    shell.run(&["token=$((6 * 7))"]);

    shell.run(&["(sleep 1; echo mem > /sys/power/state; echo is-u'p'-again) &"]);
    home.json(&["wait", "web", "--for", "status=suspended", "--timeout", "1m"]);

    assert_eq!(home.json_error(&["pause", "web"], 4)["hints"], json!(["wake it first with `maqet resume web`"]));
    assert_eq!(home.json(&["start", "web"])["changed"], false);
    let resumed = home.json(&["resume", "web"]);
    assert_eq!((&resumed["status"], &resumed["changed"]), (&json!("running"), &json!(true)));
    // What is typed before its serial line works again is lost.
    home.json(&["wait", "web", "--for", "serial:is-up-again", "--timeout", "1m"]);
    assert!(shell.run(&["echo it-is-$token"]).contains("it-is-42"));
    assert_eq!(home.json(&["status", "web"])["pid"], started["pid"]);
    home.json(&["stop", "web", "--force"]);
}

/// A suspended guest that is also paused by QMP: QEMU 10.0 reports `paused` then, 7.2 `suspended`.
#[test]
fn test_resume_of_suspended_and_paused_guest_wakes_it() {
    let home = TestHome::new();
    let case = Case::guest("web", GuestAct::Suspend, &[]).is("suspended", "guest-suspend");
    home.add(&case.yaml(&home));
    home.json(&["start", "web"]);
    reached(&home, &case);
    home.json(&["qmp", "web", "stop"]);
    let paused = if versions::has(Difference::SuspendedCanBePaused) { "paused" } else { "suspended" };
    assert_eq!(home.json(&["status", "web"])["status"], paused);

    home.json(&["resume", "web"]);

    let events = home.json(&["events", "web", "--type", "qemu.WAKEUP"]);
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
    home.json(&["stop", "web", "--force"]);
}

/// A control group for memory, in which a test can limit a QEMU; removed when dropped.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Creates one below that of this process; `None` on a host that does not allow it.
    fn create() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = own.lines().find_map(|line| line.split_once(":memory:")).map(|(_, path)| path)?;
        let name = format!("maqet-test-{}", std::process::id());
        let group = Path::new("/sys/fs/cgroup/memory").join(path.trim_start_matches('/')).join(name);
        fs::create_dir(&group).ok()?;
        Some(Self(group))
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _is_gone_or_in_use = fs::remove_dir(&self.0);
    }
}

#[test]
fn test_out_of_memory_kill_has_its_reason() {
    let Some(group) = MemoryGroup::create() else {
        let skipped = "ending::test_out_of_memory_kill_has_its_reason is SKIPPED: no control group for memory\n";
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        return;
    };
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    let start = home.maqet(["start", "web"]).into_command();
    let mut inside = Command::new("sh");
    inside.args(["-c", &format!("echo $$ > {}; exec \"$@\"", group.file("cgroup.procs")), "sh"]);
    inside.arg(start.get_program()).args(start.get_args()).env_clear();
    inside.envs(start.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert!(inside.status().unwrap().success());
    fs::write(group.file("memory.limit_in_bytes"), "150000000").unwrap();

    let allocate = ["object-add", "qom-type=memory-backend-ram", "id=m", "size=400000000", "prealloc=true"];
    // It fails, as its QEMU is killed.
    let _ = home.maqet(["qmp", "web"]).args(allocate).arg("--allow-dangerous").run();

    let case = Case::host("web", |_, _| {}).is("stopped", "out-of-memory");
    reached(&home, &case);
    check_wait_for_end(&home, &case);
    let event = &home.json(&["events", "web", "--type", "vm.stopped"])[0];
    assert!(event["data"]["details"]["message"].as_str().unwrap().contains("memory"), "{event}");
}
