//! Hooks: the user's programs that run on events, including events that are found later.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use maqet_testkit::{TestHome, guest, wait};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_mins(1);

/// Writes a script that appends its input and its arguments to the file `received`.
fn script(home: &TestHome) {
    let received = home.path("received");
    let text =
        format!("#!/bin/sh\nread -r event\necho \"$MAQET_VM $MAQET_EVENT $* $event\" >>'{}'\n", received.display());
    let path = home.write("hook.sh", text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn received(home: &TestHome) -> Vec<String> {
    let text = fs::read_to_string(home.path("received")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn add(home: &TestHome, name: &str, hooks: &str) {
    home.add(&format!("{}hooks: {hooks}\n", guest::paused_yaml(name)));
}

#[test]
fn test_hooks_of_vm_receive_its_events_on_stdin() {
    let home = TestHome::new();
    script(&home);
    add(&home, "web", "{vm.*: [./hook.sh, \"a b\"], qemu.RESUME: [./hook.sh]}");
    home.json(&["start", "web"]);
    home.json(&["resume", "web"]);
    home.json(&["stop", "web", "--force"]);
    home.json(&["rm", "web"]);

    let received = received(&home);

    let reported: Vec<String> =
        received.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    let expected = ["vm.defined", "vm.started", "vm.resumed", "qemu.RESUME", "vm.stopped", "vm.removed"];
    assert_eq!(reported, expected.map(|kind| format!("web {kind}")));
    let started: Value = serde_json::from_str(&received[1][received[1].find('{').unwrap()..]).unwrap();
    assert_eq!(
        (&started["type"], &started["vm"], &started["data"]["boot"]),
        (&json!("vm.started"), &json!("web"), &json!(1))
    );
    assert!(received[1].contains(" a b {"), "{}", received[1]);
}

#[test]
fn test_hooks_of_settings_run_for_every_vm_and_unseen_end() {
    let home = TestHome::new();
    script(&home);
    fs::create_dir_all(home.config()).unwrap();
    fs::write(home.config().join("maqet.conf"), "hooks: {vm.stopped: [../hook.sh]}\n").unwrap();
    let program = home.config().join("../hook.sh");
    if !program.exists() {
        fs::copy(home.path("hook.sh"), &program).unwrap();
    }
    home.add(&guest::paused_yaml("web"));
    let pid = home.json(&["start", "web"])["pid"].as_i64().unwrap().to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    wait::until(TIMEOUT, "the end", || (home.json(&["status", "web"])["status"] == "stopped").then_some(()));
    assert_eq!(received(&home), Vec::<String>::new(), "observing runs no hooks");

    home.json(&["start", "web"]);

    let received = received(&home);
    assert_eq!(received.len(), 1, "{received:?}");
    assert!(received[0].starts_with("web vm.stopped") && received[0].contains("\"crashed\""), "{}", received[0]);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_hook_failing_is_reported_and_fails_nothing() {
    let home = TestHome::new();
    add(&home, "web", "{vm.started: [[/bin/sh, -c, \"echo oops >&2; exit 7\"], [no-such-program]]}");

    let done = home.maqet(["start", "web"]).run().ok();

    assert!(done.stderr.contains("exit code 7") && done.stderr.contains("no-such-program"), "{}", done.stderr);
    let failed = home.json(&["events", "--type", "hook.*"]);
    assert_eq!(failed[0]["data"]["event"], "vm.started", "{failed}");
    let log = fs::read_to_string(failed[0]["data"]["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("oops"), "{log}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(failed[0]["data"]["log"].as_str().unwrap().as_ref()), 0o600);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_hook_hanging_is_killed_with_its_children() {
    let home = TestHome::new();
    fs::create_dir_all(home.config()).unwrap();
    fs::write(home.config().join("maqet.conf"), "timeouts: {hook: 2s}\n").unwrap();
    let pids = home.path("pids");
    let command = format!("printf 'so %s' far; sleep 600 & echo $! >'{}'; wait", pids.display());
    add(&home, "web", &format!("{{vm.started: [/bin/sh, -c, {}]}}", json!(command)));

    let done = home.maqet(["start", "web"]).run().ok();

    assert!(done.stderr.contains("timed out after 2s and was killed"), "{}", done.stderr);
    await_end(&pids);
    let log = fs::read_to_string(home.json(&["events", "--type", "hook.*"])[0]["data"]["log"].as_str().unwrap());
    assert!(log.as_ref().unwrap().contains("so far"), "what it printed is not lost: {log:?}");
    home.json(&["stop", "web", "--force"]);
}

/// Waits for the process whose id is in this file to end.
fn await_end(pids: &Path) {
    let sleeper = wait::until(TIMEOUT, "the process", || {
        let text = fs::read_to_string(pids).unwrap_or_default();
        text.strip_suffix('\n').map(str::to_owned)
    });
    wait::until(TIMEOUT, "the end of what the hook started", || {
        let stat = fs::read_to_string(format!("/proc/{sleeper}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
}

/// The hook calls maqet, whose own hook hangs: the outer hook times out first.
#[test]
fn test_hook_of_nested_maqet_is_killed_with_outer_hook() {
    let home = TestHome::new();
    fs::create_dir_all(home.config()).unwrap();
    fs::write(home.config().join("maqet.conf"), "timeouts: {hook: 5s}\n").unwrap();
    let pids = home.path("pids");
    let hangs = json!(["/bin/sh", "-c", format!("sleep 600 & echo $! >'{}'; wait", pids.display())]);
    let resume = home.maqet(["resume", "web"]).into_command();
    let arguments: Vec<String> = std::iter::once(resume.get_program())
        .chain(resume.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    add(&home, "web", &format!("{{vm.started: {}, vm.resumed: {hangs}}}", json!(arguments)));

    let done = home.maqet(["start", "web"]).run().ok();

    assert!(done.stderr.contains("timed out after 5s and was killed"), "{}", done.stderr);
    await_end(&pids);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_hook_stopping_its_vm_works() {
    let home = TestHome::new();
    let maqet = home.maqet(["stop", "web", "--force"]).into_command();
    let arguments: Vec<String> = std::iter::once(maqet.get_program())
        .chain(maqet.get_args())
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    add(&home, "web", &format!("{{vm.started: {}}}", json!(arguments)));

    let done = home.maqet(["start", "web"]).run().ok();

    assert_eq!(done.stderr, "");
    assert_eq!(home.json(&["status", "web"])["status"], "stopped");
}

#[test]
fn test_hook_unknown_event_type_suggests_similar_one() {
    let home = TestHome::new();
    let file = home.write("vm.yaml", "name: web\nhooks: {vm.strated: [x]}\n");

    let refused = home.json_error(&["add", file.to_str().unwrap()], 2);

    assert_eq!(refused["problems"][0]["path"], "hooks.vm.strated");
    assert!(refused.to_string().contains("vm.started"), "{refused}");
}

/// Returns a command that leaves a process running, in a session of its own, with its output open.
fn daemon(home: &TestHome) -> String {
    let fifo = home.path("fifo").display().to_string();
    format!("mkfifo '{fifo}' 2>/dev/null; setsid -f sh -c 'read line <>\"$0\"' '{fifo}'")
}

/// Returns the daemons, once there are this many at least: each is another program for a moment.
#[track_caller]
fn daemons(home: &TestHome, count: usize) -> Vec<u32> {
    wait::until(TIMEOUT, "the daemons to run", || {
        let found = home.processes().into_iter().filter(|process| process.command.starts_with("sh -c read line"));
        Some(found.map(|process| process.pid.cast_unsigned()).collect()).filter(|found: &Vec<u32>| found.len() >= count)
    })
}

#[test]
fn test_hook_leaving_daemon_ends_and_is_reported() {
    let home = TestHome::new();
    // The run would be killed long before.
    home.write("config/maqet/maqet.conf", "timeouts: {hook: 10m}\n");
    let command = format!("{}; echo started it", daemon(&home));
    add(&home, "web", &format!("{{vm.started: [[/bin/sh, -c, {}], [/bin/sh, -c, \"echo second\"]]}}", json!(command)));
    let done = home.maqet(["start", "web"]).run().ok();

    assert!(!done.stderr.contains("failed"), "{}", done.stderr);
    let left = daemons(&home, 1);
    let events = home.json(&["events", "--type", "hook.*"]);
    assert_eq!(events[0]["type"], "hook.left-processes", "{events}");
    let processes = &events[0]["data"]["processes"];
    assert_eq!((&processes[0]["pid"], processes.as_array().unwrap().len()), (&json!(left[0]), 1), "{events}");
    // It is the program that started it, until it becomes another.
    let program = processes[0]["program"].as_str().unwrap();
    let log = fs::read_to_string(events[0]["data"]["log"].as_str().unwrap()).unwrap();
    let exits: Vec<&str> = log.lines().filter_map(|line| line.split("`: ").nth(1)).collect();
    assert_eq!(
        exits,
        [format!("exit code 0, left 1 process running: `{program}` ({})", left[0]), "exit code 0".to_owned()]
    );
    assert!(log.contains("started it") && log.contains("second"), "{log}");
    home.json(&["stop", "web", "--force"]);
}

/// SIGPIPE would end it, as most programs, at its first write after maqet has exited.
#[test]
fn test_hook_daemon_writing_after_its_hook_lives_on() {
    let home = TestHome::new();
    let done = home.path("done");
    let daemon = home.write(
        "daemon.sh",
        format!(
            "read line <>'{}'; echo late; echo late >&2; touch '{}'\n",
            home.path("fifo").display(),
            done.display()
        ),
    );
    let fifo = home.path("fifo").display().to_string();
    let command = format!("mkfifo '{fifo}'; setsid -f sh '{}'; echo early", daemon.display());
    add(&home, "web", &format!("{{vm.started: [/bin/sh, -c, {}]}}", json!(command)));
    home.json(&["start", "web"]);

    fs::write(&fifo, "\n").unwrap();

    wait::until(TIMEOUT, "the daemon to write and go on", || done.exists().then_some(()));
    let log = fs::read_to_string(home.path("state/maqet/hooks.log")).unwrap();
    assert!(log.contains("early") && !log.contains("late"), "{log}");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_hook_reopening_its_output_is_logged() {
    let home = TestHome::new();
    let command = "echo one; sleep 0.1; echo two >/dev/stdout; echo three >/dev/stderr";
    add(&home, "web", &format!("{{vm.started: [/bin/sh, -c, {}]}}", json!(command)));

    home.json(&["start", "web"]);

    let log = fs::read_to_string(home.path("state/maqet/hooks.log")).unwrap();
    assert!(["one", "two", "three"].iter().all(|text| log.contains(text)), "{log}");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_hook_log_is_rotated_at_the_limit_of_the_settings() {
    let home = TestHome::new();
    fs::create_dir_all(home.config()).unwrap();
    fs::write(home.config().join("maqet.conf"), "logs: {hooks: 64K}\n").unwrap();
    add(&home, "web", "{vm.started: [/bin/sh, -c, \"head -c 40000 /dev/zero | tr '\\\\0' x\"]}");
    for _ in 0..3 {
        home.json(&["start", "web"]);
        home.json(&["stop", "web", "--force"]);
    }

    let length = |name: &str| fs::metadata(home.state().join(name)).unwrap().len();

    assert!(length("hooks.log") < 64 << 10 && length("hooks.log.1") > 64 << 10);
}

#[test]
fn test_hook_failing_with_daemon_fails_at_once() {
    let home = TestHome::new();
    let command = format!("{}; exit 3", daemon(&home));
    add(&home, "web", &format!("{{vm.started: [/bin/sh, -c, {}]}}", json!(command)));

    home.maqet(["start", "web"]).run().ok();

    let events = home.json(&["events", "--type", "hook.*"]);
    assert_eq!(events[0]["data"]["error"], "ended with exit code 3", "{events}");
    assert_eq!(daemons(&home, 1).len(), 1);
    home.json(&["stop", "web", "--force"]);
}

/// Only a process that leaves the process group outlives the hook.
#[test]
fn test_hook_background_child_is_killed_with_its_group() {
    let home = TestHome::new();
    let command =
        format!("tail -f '{}' & echo $! >'{}'", home.write("forever", "").display(), home.path("pid").display());
    add(&home, "web", &format!("{{vm.started: [/bin/sh, -c, {}]}}", json!(command)));

    home.maqet(["start", "web"]).run().ok();

    await_end(&home.path("pid"));
    assert_eq!(home.json(&["events", "--type", "hook.*"]), json!([]));
    home.json(&["stop", "web", "--force"]);
}

/// Writes a program that leaves a daemon running and then is the program of this name in `PATH`.
fn leaving_daemon(home: &TestHome, name: &str) -> PathBuf {
    let found =
        env::split_paths(&env::var_os("PATH").unwrap()).map(|folder| folder.join(name)).find(|path| path.exists());
    let script = format!("#!/bin/sh\n{}\nexec '{}' \"$@\"\n", daemon(home), found.unwrap().display());
    let path = home.write(format!("bin/{name}"), script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn test_start_binary_leaving_daemon_does_not_wait_for_it() {
    let home = TestHome::new();
    let binary = leaving_daemon(&home, "qemu-system-x86_64");
    home.add(&format!("{}binary: {}\n", guest::paused_yaml("web"), binary.display()));

    let started = home.maqet(["start", "web", "--format", "json"]).run().ok().json_value();
    let stopped = home.json(&["stop", "web", "--force"]);
    let again = home.json(&["start", "web"]);

    assert_eq!(started["status"], "paused");
    assert!(daemons(&home, 2).len() >= 2, "one of `--version`, one of the start");
    assert_eq!((&stopped["status"], &again["changed"]), (&json!("stopped"), &json!(true)), "the daemon holds the lock");
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_create_disk_image_tool_leaving_daemon_does_not_wait_for_it() {
    let home = TestHome::new();
    let tool = leaving_daemon(&home, "qemu-img");
    let folders = env::var_os("PATH").unwrap();
    let path =
        env::join_paths([tool.parent().unwrap().to_owned()].into_iter().chain(env::split_paths(&folders))).unwrap();
    home.add(&format!("{}storage: [{{name: hdd, size: 1M}}]\n", guest::paused_yaml("web")));

    let started = home.maqet(["start", "web", "--format", "json"]).env("PATH", path).run().ok().json_value();

    assert_eq!(started["status"], "paused");
    assert!(!daemons(&home, 1).is_empty());
    home.json(&["stop", "web", "--force"]);
}
