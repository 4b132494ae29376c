//! Commands that are killed or interrupted, and damage done by others.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use maqet_testkit::{Terminal, TestHome, guest, process, qemu, wait};
use serde_json::{Value, json};

/// Writes a binary that claims to be QEMU and then hangs.
fn hanging_qemu(home: &TestHome) -> PathBuf {
    // `tail` has the file among its arguments, so that its process can be found.
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'QEMU emulator version 7.2.22'; exit; }\n\
                  echo 'still thinking' >&2\nexec tail -f \"$0\" >/dev/null\n";
    let path = home.write("qemu-hangs", script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Waits until such a binary hangs: before, it is asked for its version.
fn wait_for_hanging_qemu(home: &TestHome) {
    wait::until(wait::LONG, "the hanging binary to run", || {
        home.processes().iter().any(|found| found.command.starts_with("tail -f")).then_some(())
    });
}

/// A killed start leaves either nothing or a VM that `ls` shows and `stop` stops.
#[test]
fn test_start_killed_at_any_moment_leaves_no_hidden_qemu() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));

    for millis in [1, 5, 10, 20, 30, 40, 60, 80, 100, 120] {
        let _killed = home.maqet(["start", "web"]).spawn().kill_after(Duration::from_millis(millis));

        let before = home.qemu_pids();
        let status = home.json(&["status", "web"]);
        let after = home.qemu_pids();
        let shown: Vec<i32> = status["pid"].as_i64().map(|pid| i32::try_from(pid).unwrap()).into_iter().collect();
        // A child that was forked may become QEMU at this moment.
        assert!([&before, &after].contains(&&shown), "{millis} ms: {before:?} {after:?} {status}");
        home.json(&["stop", "web", "--force"]);
        assert_eq!(home.qemu_pids(), Vec::<i32>::new(), "killed after {millis} ms");
    }
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
}

#[test]
fn test_start_interrupted_exits_130_and_leaves_no_qemu() {
    let home = TestHome::new();
    let hanging = hanging_qemu(&home);
    home.add(&format!("name: web\naccel: tcg\nbinary: {}\n", hanging.display()));

    let start = home.maqet(["start", "web"]).spawn();
    wait_for_hanging_qemu(&home);
    let interrupted = std::process::Command::new("kill").args(["-INT", &start.pid().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let _ = start.wait().code(130);

    wait::until(wait::LONG, "the hanging binary to be gone", || home.processes().is_empty().then_some(()));
    assert_eq!(home.json(&["status", "web"])["pid"], Value::Null);
    home.json(&["rm", "web"]);
}

#[test]
fn test_start_interrupted_keeps_vm_status_and_is_reported() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    home.json(&["stop", "web"]);
    let before = home.json(&["status", "web"]);
    let hanging = hanging_qemu(&home);
    home.json(&["apply", "web", "--set", &format!("binary={}", hanging.display())]);

    let start = home.maqet(["start", "web"]).spawn();
    wait_for_hanging_qemu(&home);
    let interrupted = std::process::Command::new("kill").args(["-INT", &start.pid().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let _ = start.wait().code(130);

    assert_eq!(home.processes().len(), 0);
    assert_eq!(home.json(&["status", "web"]), before);
    let reported = home.json(&["events", "web", "--type", "vm.start-failed"]);
    assert_eq!(reported[0]["data"]["error"], "the start was canceled");
}

/// Creates a folder with a `qemu-img` that begins to change an image only once there is a file `go`.
fn slow_qemu_img(home: &TestHome) -> OsString {
    let release = home.path("go");
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = snapshot ]; then\n  touch '{0}.waits'\n  until [ -e '{0}' ]; do sleep 0.05; done\nfi\n\
         exec {1} \"$@\"\n",
        release.display(),
        qemu::image_tool().display(),
    );
    let tool = home.write("tools/qemu-img", script);
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let mut path = tool.parent().unwrap().as_os_str().to_owned();
    path.push(":/usr/bin:/bin");
    path
}

/// The tool continues, and the image stays locked until it is done.
#[test]
fn test_snapshot_killed_keeps_lock_until_qemu_img_exits() {
    let home = TestHome::new();
    home.add(&format!("{}storage: [{{name: hdd, size: 1M}}]\n", guest::paused_yaml("web")));
    home.write("config/maqet/maqet.conf", "timeouts: {lock: 200ms}\n");
    let path = slow_qemu_img(&home);
    let create = home.maqet(["snapshot", "create", "web", "hdd", "one"]).env("PATH", &path).spawn();
    wait::until(wait::LONG, "the tool to run", || home.path("go.waits").exists().then_some(()));
    let killed = i64::from(create.pid());
    let _ = create.kill();

    let status = home.json(&["status", "web"]);
    assert_eq!((&status["status"], &status["busy"]["reason"]), (&json!("busy"), &json!("snapshot.create")));
    let tool = status["busy"]["pid"].as_i64().unwrap();
    assert_ne!(tool, killed);
    let refused = home.json_error(&["start", "web"], 75);
    assert!(refused["message"].as_str().unwrap().contains(&format!("process {tool}")), "{refused}");

    home.write("go", "");
    home.write("config/maqet/maqet.conf", "timeouts: {lock: 1m}\n");
    home.json(&["snapshot", "create", "web", "hdd", "two"]);
    assert_eq!(home.json(&["snapshot", "ls", "web"]).as_array().unwrap().len(), 2);
    home.json(&["rm", "web"]);
}

#[test]
fn test_snapshot_interrupted_waits_for_qemu_img_and_exits_130() {
    let home = TestHome::new();
    home.add(&format!("{}storage: [{{name: hdd, size: 1M}}]\n", guest::paused_yaml("web")));
    let path = slow_qemu_img(&home);
    let terminal = Terminal::new();
    let maqet = home.maqet(["snapshot", "create", "web", "hdd", "one"]).into_command();
    // In a session of its own with this terminal, so that Ctrl-C reaches all processes of the command.
    let mut create = std::process::Command::new("setsid")
        .arg("--ctty")
        .arg(maqet.get_program())
        .args(maqet.get_args())
        .env_clear()
        .envs(home.environment())
        .env("PATH", &path)
        .stdin(terminal.stdio())
        .stdout(terminal.stdio())
        .stderr(terminal.stdio())
        .spawn()
        .unwrap();
    wait::until(wait::LONG, "the tool to run", || home.path("go.waits").exists().then_some(()));

    terminal.type_keys("\u{3}");
    terminal.wait_for(0, "^C");
    home.write("go", "");
    assert_eq!(create.wait().unwrap().code(), Some(130), "{}", terminal.shown());

    assert_eq!(home.json(&["snapshot", "ls", "web"]), json!([]), "it was not taken back");
    assert_eq!(home.json(&["status", "web"])["status"], "defined");
    home.json(&["rm", "web"]);
}

#[test]
fn test_start_hanging_binary_times_out_and_is_killed() {
    let home = TestHome::new();
    let hanging = hanging_qemu(&home);
    home.add(&format!("name: web\naccel: tcg\nbinary: {}\n", hanging.display()));

    let finished = home.maqet(["start", "web", "--timeout", "3s", "--format", "json"]).run().code(124);

    let error = &finished.json_error()["error"];
    assert_eq!(error["code"], "vm.start-timed-out");
    assert!(error["causes"][0].as_str().unwrap().contains("still thinking"), "{error}");
    assert!(home.processes().is_empty());
    assert_eq!(home.json(&["status", "web"])["status"], "defined");
}

#[test]
fn test_database_emptied_is_reported_and_not_replaced() {
    let home = TestHome::new();
    home.maqet(["add", "--empty", "--name", "web"]).run().ok();
    let database = home.files().into_iter().find(|path| path.ends_with("maqet.db")).unwrap();
    fs::write(&database, "").unwrap();
    let _ = fs::remove_file(database.with_extension("db-wal"));

    let finished = home.json_error(&["ls"], 1);

    assert_eq!(finished["code"], "store.corrupt");
    assert_eq!(fs::metadata(&database).unwrap().len(), 0);
}

#[test]
fn test_stop_recycled_pid_is_never_signalled() {
    let home = TestHome::new();
    home.add(&guest::paused_yaml("web"));
    home.json(&["start", "web"]);
    process::end(home.qemu_pids()[0].try_into().unwrap());
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let database = home.files().into_iter().find(|path| path.ends_with("maqet.db")).unwrap();
    let changed = rusqlite::Connection::open(&database).unwrap().execute("UPDATE vm SET pid = ?1", [stranger.id()]);
    assert_eq!(changed.unwrap(), 1);

    let status = home.json(&["status", "web"]);
    assert_eq!((&status["status"], &status["pid"]), (&json!("stopped"), &Value::Null));
    home.json(&["stop", "web", "--force"]);
    home.json(&["rm", "web", "--force"]);

    assert!(stranger.try_wait().unwrap().is_none(), "the stranger was killed");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn test_stop_interrupted_leaves_vm_running() {
    let home = TestHome::new();
    let image = guest::BootSector::new("maqet-boot", guest::AfterMarker::Sleep).write(&home);
    home.add(&guest::BootSector::yaml("web", &image));
    home.json(&["start", "web"]);

    let stop = home.maqet(["stop", "web", "--timeout", "1m"]).spawn();
    wait::until(wait::LONG, "the VM to be stopping", || {
        (home.json(&["status", "web"])["status"] == "stopping").then_some(())
    });
    let interrupted = std::process::Command::new("kill").args(["-INT", &stop.pid().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let _ = stop.wait().code(130);

    assert_eq!(home.json(&["status", "web"])["status"], "running");
    home.json(&["stop", "web", "--force"]);
}
