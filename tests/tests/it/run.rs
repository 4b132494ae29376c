//! `run`: a VM that is made for a command, and of which nothing is left, however that ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use maqet_testkit::guest::{AfterMarker, BootSector, CountSector, DebianFiles, agent_yaml};
use maqet_testkit::{Finished, Running, TestHome, variable, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What guests without an agent print.
const UP: &str = "the guest is up";

fn send(running: &Running, signal: Signal) {
    kill_process(Pid::from_raw(running.pid().try_into().unwrap()).unwrap(), signal).unwrap();
}

/// Writes the definition of a guest that prints, and sleeps: it never has an agent.
fn sleeper(home: &TestHome) -> PathBuf {
    let image = BootSector::new(UP, AfterMarker::Sleep).write(home);
    home.write("sleeper.yaml", BootSector::yaml("sleeper", &image))
}

/// Begins to run a command in a guest that never comes so far, and waits until the guest is up.
fn begin(home: &TestHome, arguments: &[&str]) -> Running {
    let running = home.maqet(["run"]).arg(sleeper(home)).args(arguments).args(["--", "true"]).spawn();
    wait_for_guest(home);
    running
}

fn wait_for_guest(home: &TestHome) {
    wait::until(wait::LONG, "the guest to be up", || {
        let vms = home.json(&["ls"]);
        let log = vms[0]["serial_log"].as_str()?;
        fs::read_to_string(log).ok()?.contains(UP).then_some(())
    });
}

#[track_caller]
fn assert_nothing_left(home: &TestHome) {
    assert_eq!(home.json(&["ls"]), serde_json::json!([]));
    assert_eq!(home.qemu_pids(), [0; 0]);
    assert_eq!(home.stale_files(), Vec::<PathBuf>::new());
    let storage: Vec<_> = fs::read_dir(home.data().join("storage")).into_iter().flatten().collect();
    assert!(storage.is_empty(), "{storage:?}");
    let records = home.files().into_iter().filter(|path| path.ends_with("serial.log") || path.ends_with("vm.json"));
    assert_eq!(records.collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

/// Returns the report of a run.
fn report(home: &TestHome, name: &str) -> Value {
    serde_json::from_slice(&fs::read(home.path(name)).unwrap()).unwrap()
}

/// A guest that does not boot is no verdict about the command, and the report says how far it came.
#[test]
fn test_run_whose_guest_does_not_boot_is_an_error() {
    let home = TestHome::new();
    let image = BootSector::new(UP, AfterMarker::Leave).write(&home);
    let ends = home.write("ends.yaml", BootSector::yaml("ends", &image));
    home.write("fails.yaml", "args: [-device, none-such]\n");
    let matrix = format!(
        "- {{name: ends, files: {0:?}}}\n- {{name: invalid, files: {0:?}, set: [memry=1G]}}\n- {{name: no-vm, vm: nope}}\n\
         - {{name: fails, files: [{0:?}, fails.yaml]}}\n",
        ends.display(),
    );
    let matrix = home.write("matrix.yaml", matrix);

    let run =
        home.maqet(["run", "--boot-timeout", "1m", "--report", "report.json", "--junit", "junit.xml", "--matrix"]);
    let ended = run.arg(&matrix).args(["--", "true"]).in_folder(home.root()).run();

    assert_eq!(ended.code, Some(125), "{ended}");
    let report = report(&home, "report.json");
    let of = |index: usize| {
        let result = &report[index];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        [text(&result["case"]), text(&result["outcome"]), text(&result["phase"]), text(&result["error"]["code"])]
    };
    assert_eq!(of(0), ["ends", "not-started", "boot", "wait.vm-unavailable"], "{report}");
    assert_eq!(of(1), ["invalid", "not-started", "", "config.invalid"], "{report}");
    assert_eq!(of(2), ["no-vm", "not-started", "", "vm.not-found"], "{report}");
    assert_eq!(of(3)[..3], ["fails", "not-started", "start"], "{report}");
    assert!(!report[3]["error"]["hints"].to_string().contains("--keep"), "no VM is left: {report}");
    let ends = &report[0];
    assert_eq!((ends["stage"].as_str(), &ends["exit_code"]), (Some("firmware"), &125.into()), "{ends}");
    assert!(ends["serial"].as_array().unwrap().iter().any(|line| line == UP), "{ends}");
    let xml = fs::read_to_string(home.path("junit.xml")).unwrap();
    assert!(xml.contains("<testsuites tests=\"4\" failures=\"0\" errors=\"4\""), "{xml}");
    assert!(ended.stderr.contains("0 of 4 cases passed"), "{ended}");
    assert_nothing_left(&home);
}

/// A report is written although nothing was begun, so that none of an earlier run is read.
#[test]
fn test_run_whose_arguments_are_wrong_writes_its_report() {
    let home = TestHome::new();
    let node = "arguments: [{blockdev: {driver: raw, node-name: z, file: {driver: file, filename: z.img}}}]";
    home.write("z.img", "");
    home.write("node.yaml", node);
    home.write("good.yaml", "accel: tcg\n");
    let memory = "{object: {qom-type: memory-backend-file, id: m, size: 1M, mem-path: z.img, share: true}}";
    home.write("memory.yaml", format!("arguments: [{memory}]"));
    for (arguments, code) in [
        (&["none.yaml"][..], "config.unavailable"),
        (&["--matrix", "none.yaml"], "config.unavailable"),
        (&["good.yaml", "--copy", "none:/root"], "copy.source-not-found"),
        (&["node.yaml"], "config.invalid"),
        (&["memory.yaml"], "config.invalid"),
    ] {
        home.write("report.json", "that of an earlier run");
        let run = home.maqet(["run", "--report", "report.json", "--junit", "junit.xml"]).args(arguments);

        let ended = run.args(["--", "true"]).in_folder(home.root()).run();

        let report = report(&home, "report.json");
        let report = if arguments[0] == "--matrix" { &report[0] } else { &report };
        assert_eq!((ended.code, report["error"]["code"].as_str()), (Some(125), Some(code)), "{ended}");
        assert_eq!(report["outcome"], "not-started", "{report}");
        if code == "config.invalid" {
            assert!(ended.stderr.contains("could not undo that") && ended.stderr.contains("z.img"), "{ended}");
        }
        assert_nothing_left(&home);
    }
}

/// SIGTERM ends the whole list, and the code tells that.
#[test]
fn test_run_of_several_cases_ends_by_a_signal() {
    let home = TestHome::new();
    let case = sleeper(&home);
    let matrix = format!("- {{files: {0:?}}}\n- {{files: {0:?}}}\n", case.display());
    let matrix = home.write("matrix.yaml", matrix);
    let run = home.maqet(["run", "--matrix"]).arg(&matrix).args(["--", "true"]);
    let running = run.spawn();
    wait_for_guest(&home);

    send(&running, Signal::TERM);
    let ended = running.wait();

    assert_eq!(ended.code, Some(143), "{ended}");
    assert!(ended.stderr.contains("interrupted; 1 cases were not run"), "{ended}");
    assert_nothing_left(&home);
}

/// A run of another data directory on the same database is none of ours, alive or not.
#[test]
fn test_run_leaves_those_of_another_data_directory_alone() {
    let home = TestHome::new();
    // Beside a drive of its own, a disk is made for the run.
    let definition = fs::read_to_string(sleeper(&home)).unwrap() + "storage: {name: data, size: 1M}\n";
    let definition = home.write("disk.yaml", definition);
    let database = home.path("shared.db");
    let here = |arguments: &[&str]| home.maqet(arguments).env("MAQET_DATABASE", &database);
    let there = |arguments: &[&str]| here(arguments).env("XDG_DATA_HOME", home.path("elsewhere"));
    let running = here(&["run"]).arg(&definition).args(["--", "true"]).spawn();
    wait::until(wait::LONG, "the guest to be up", || {
        let vms: Value = serde_json::from_str(&here(&["ls", "--format", "json"]).run().ok().stdout).ok()?;
        fs::read_to_string(vms[0]["serial_log"].as_str()?).ok()?.contains(UP).then_some(())
    });

    let other = there(&["run", "--boot-timeout", "0s"]).arg(&definition).args(["--", "true"]).run();
    let cleaned = there(&["cleanup"]).run().ok();
    let left = here(&["ls", "--status", "running", "--format", "json"]).run().ok();
    send(&running, Signal::TERM);
    let ended = running.wait();

    assert_eq!((other.code, ended.code), (Some(125), Some(143)), "{other}{ended}");
    assert!(other.stderr.contains("--boot-timeout"), "{other}");
    let left: Value = serde_json::from_str(&left.stdout).unwrap();
    assert_eq!(left.as_array().map(Vec::len), Some(1), "{cleaned}");
    assert_eq!(here(&["ls", "--format", "json"]).run().ok().stdout.trim(), "[]");
}

/// A signal while the guest boots ends everything; so does SIGKILL, of which the next command removes the rest.
#[test]
fn test_run_that_is_ended_while_its_guest_boots_leaves_nothing() {
    let home = TestHome::new();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let running = begin(&home, &[]);

        send(&running, signal);
        let ended = running.wait();

        assert_eq!(ended.code, Some(code), "{ended}");
        assert_nothing_left(&home);
    }

    drop(begin(&home, &[]).kill());
    wait::until(wait::LONG, "QEMU to end", || home.qemu_pids().is_empty().then_some(()));
    let found = home.json(&["doctor"]);
    assert!(found["findings"].to_string().contains("a VM of a `maqet run` or `fork` that was killed"), "{found}");
    let cleaned = home.json(&["cleanup"]);
    assert_eq!((&cleaned["items"][0]["kind"], &cleaned["items"][0]["outcome"]), (&"vm".into(), &"removed".into()));
    assert_nothing_left(&home);

    drop(begin(&home, &[]).kill());
    wait::until(wait::LONG, "QEMU to end", || home.qemu_pids().is_empty().then_some(()));
    let next = home.maqet(["--format", "json", "run", "--boot-timeout", "0s"]).arg(home.path("sleeper.yaml"));
    let next = next.args(["--", "true"]).run();
    assert_eq!(next.code, Some(125), "{next}");
    assert!(next.stderr.contains("wait.timed-out") && next.stderr.contains("--boot-timeout"), "{next}");
    assert_nothing_left(&home);
}

/// What a running VM of `run` is for others: `cleanup` leaves it alone, and `rm` ends the run.
#[test]
fn test_run_is_left_alone_by_cleanup_and_ended_by_rm() {
    let home = TestHome::new();
    fs::create_dir(home.path("shared")).unwrap();
    let share = format!("{}:/work:ro", home.path("shared").display());
    let running = begin(&home, &["--share", &share]);

    let cleaned = home.json(&["cleanup"]);
    let name = home.json(&["ls"])[0]["name"].as_str().unwrap().to_owned();
    let shared = &home.json(&["info", &name])["definition"]["storage"][0];
    let shared = [&shared["name"], &shared["type"], &shared["path"], &shared["readonly"]].map(ToString::to_string);
    home.maqet(["rm", "--force", &name]).run().ok();
    let ended = running.wait();

    assert!(!cleaned["items"].to_string().contains("\"vm\""), "{cleaned}");
    assert!(name.starts_with("sleeper-"), "{name}");
    let path = format!("{:?}", home.path("shared").display().to_string());
    assert_eq!(shared, ["\"run-share-0\"", "\"virtfs\"", &path, "true"]);
    assert_eq!(ended.code, Some(125), "{ended}");
    assert_nothing_left(&home);
}

/// The disks of a VM stay as they are, although the guest writes to them.
#[test]
fn test_run_on_the_disks_of_a_vm_does_not_write_them() {
    let home = TestHome::new();
    home.add(&CountSector::yaml("count", &CountSector::write(&home), &["one", "two"]));
    // Makes the disks.
    home.maqet(["start", "count", "--paused"]).run().ok();
    home.maqet(["stop", "count", "--force"]).run().ok();
    let disks = ["one", "two"].map(|drive| home.data().join(format!("storage/count/{drive}.qcow2")));
    let before = disks.each_ref().map(|disk| fs::read(disk).unwrap());

    let wait = ["--vm", "count", "--wait", "serial:n=0004", "--wait", "agent", "--boot-timeout", "1m"];
    let running = home.maqet(["run"]).args(wait).args(["--", "true"]).spawn();
    wait::until(wait::LONG, "the guest to write", || {
        let vms = home.json(&["ls", "--status", "running"]);
        let log = fs::read_to_string(vms[0]["serial_log"].as_str()?).ok()?;
        CountSector::numbers(&log).last().filter(|number| **number >= 4).map(drop)
    });
    send(&running, Signal::TERM);
    let ended = running.wait();

    assert_eq!(ended.code, Some(143), "{ended}");
    let after = disks.each_ref().map(|disk| fs::read(disk).unwrap());
    assert!(before == after, "a disk was written");
    assert_eq!(home.json(&["ls"])[0]["name"], "count");
    assert_eq!(home.json(&["storage", "ls"]).as_array().unwrap().len(), 2);
    assert_eq!(home.qemu_pids(), [0; 0]);
}

/// A VM that is kept is one as any other, and runs on.
#[test]
fn test_run_that_failed_keeps_its_vm_on_request() {
    let home = TestHome::new();
    let sleeper = sleeper(&home);

    let ended = home
        .maqet(["--format", "json", "run", "--keep=failed", "--boot-timeout", "0s"])
        .arg(&sleeper)
        .args(["--", "true"])
        .run();
    let vm = &home.json(&["ls"])[0];
    let cleaned = home.json(&["cleanup"]);

    assert_eq!(ended.code, Some(125), "{ended}");
    assert_eq!(vm["status"], "running", "{ended}");
    assert!(!cleaned["items"].to_string().contains("\"vm\""), "{cleaned}");
    let info = home.json(&["info", vm["name"].as_str().unwrap()]);
    assert!(info["definition"].get("labels").is_none(), "{info}");
    home.maqet(["rm", "--force", "--delete-storage", vm["name"].as_str().unwrap()]).run().ok();
}

fn agent_guest(home: &TestHome) -> PathBuf {
    home.write("agent.yaml", agent_yaml("agent", &DebianFiles::built()))
}

/// Runs a command in a guest that has nothing but an agent.
fn run_in_guest(home: &TestHome, arguments: &[&str]) -> Finished {
    let run = home.maqet(["run"]).arg(agent_guest(home)).args(["--boot-timeout", "4m"]).args(arguments);
    run.in_folder(home.root()).deadline(Duration::from_mins(6)).run()
}

/// The exit code is that of the command, what was copied is there, and what was collected comes back, although it failed.
#[test]
fn test_run_command_gets_and_leaves_files() {
    let home = TestHome::new();
    fs::create_dir(home.path("in")).unwrap();
    home.write("in/file", "from the host\n");
    let script = "cat /run/in/file && echo \"$A\" >/run/out && echo wrong >&2; exit 7";
    let files = ["--copy", "in:/run/", "--collect", "/run/out:out", "--collect", "/run/none:none"];

    let ended = run_in_guest(
        &home,
        &[&files[..], &["-e", "A=b c", "--report", "r.json", "--junit", "j.xml", "--", "sh", "-c", script]].concat(),
    );

    assert_eq!((ended.code, ended.stdout.as_str()), (Some(7), "from the host\n"), "{ended}");
    assert!(ended.stderr.starts_with("wrong\n") || ended.stderr.contains("\nwrong\n"), "{ended}");
    assert_eq!(fs::read_to_string(home.path("out")).unwrap(), "b c\n");
    let report = report(&home, "r.json");
    assert_eq!((&report["outcome"], &report["exit_code"]), (&"exited".into(), &7.into()), "{report}");
    assert_eq!(report["error"]["code"], "copy.source-not-found", "{report}");
    let steps: Vec<&str> =
        report["steps"].as_array().unwrap().iter().filter_map(|step| step["phase"].as_str()).collect();
    assert_eq!(steps, ["start", "boot", "copy", "command", "collect", "remove"]);
    let xml = fs::read_to_string(home.path("j.xml")).unwrap();
    assert!(xml.contains("<system-out>from the host&#10;</system-out>"), "{xml}");
    assert_nothing_left(&home);
}

/// SIGTERM reaches the command, which may still write what is collected; one that ends the guest is cut off.
#[test]
fn test_run_command_gets_signals_before_its_vm_is_removed() {
    let home = TestHome::new();
    let script = "trap 'echo late >/run/out; exit 5' TERM; echo begun; while :; do sleep 0.1; done";
    let run = home.maqet(["run", "--boot-timeout", "4m", "--kill-after", "1m", "--collect", "/run/out:out"]);
    let run = run
        .arg(agent_guest(&home))
        .args(["--", "sh", "-c", script])
        .in_folder(home.root())
        .deadline(Duration::from_mins(6));
    let mut running = run.spawn();
    running.wait_for_stdout("begun");

    send(&running, Signal::TERM);
    let ended = running.wait();

    assert_eq!(ended.code, Some(5), "{ended}");
    assert_eq!(fs::read_to_string(home.path("out")).unwrap(), "late\n");
    assert_nothing_left(&home);
}

/// Moments at which runs are ended, the same in each run of the test.
struct Moments(u64);

impl Moments {
    fn next(&mut self, limit: Duration) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let limit = u64::try_from(limit.as_millis()).unwrap();
        Duration::from_millis((self.0 >> 33) % limit)
    }
}

/// Runs of one definition at once, each ended at some moment by SIGTERM or SIGKILL, leave nothing; those that end by
/// themselves have their own codes. The long form has a hundred of them.
#[test]
fn test_run_ended_at_any_moment_leaves_nothing() {
    let home = TestHome::new();
    let sleeper = sleeper(&home);
    let rounds = if variable::is_long() { 10 } else { 1 };
    let agent = if variable::is_long() { agent_guest(&home) } else { PathBuf::new() };
    let mut moments = Moments(7);
    for round in 0..rounds {
        let sleepers = (0..6).map(|index| {
            let running = home.maqet(["run", "--kill-after", "1s"]).arg(&sleeper).args(["--", "true"]).spawn();
            (running, moments.next(Duration::from_millis(1_500)), index % 2 == 0)
        });
        let sleepers: Vec<_> = sleepers.collect();
        let guests: Vec<_> =
            if variable::is_long() { (0..4).map(|code| with_code(&home, &agent, code)).collect() } else { Vec::new() };
        std::thread::scope(|scope| {
            for (running, after, is_killed) in sleepers {
                scope.spawn(move || end_after(running, after, is_killed, None));
            }
        });
        for (code, running) in (0..).zip(guests) {
            let after = moments.next(Duration::from_mins(1));
            // Of each round, two end by themselves.
            if code < 2 {
                let ended = running.wait();
                assert_eq!(ended.code, Some(code), "round {round}: {ended}");
            } else {
                end_after(running, after, code == 2, Some(code));
            }
        }
        wait::until(wait::LONG, "each QEMU to end", || home.qemu_pids().is_empty().then_some(()));

        let next = home.maqet(["run", "--boot-timeout", "0s"]).arg(&sleeper).args(["--", "true"]).run();
        let left = home.json(&["ls"]);
        home.maqet(["cleanup"]).run().ok();

        assert_eq!((next.code, left), (Some(125), serde_json::json!([])), "round {round}: {next}");
        assert_nothing_left(&home);
    }
}

fn with_code(home: &TestHome, agent: &Path, code: i32) -> Running {
    let run = home.maqet(["run", "--kill-after", "1s", "--boot-timeout", "9m"]).arg(agent);
    run.args(["--", "sh", "-c", &format!("sleep 1; exit {code}")]).deadline(Duration::from_mins(10)).spawn()
}

/// Ends a run after some time, by SIGKILL or by SIGTERM; it may have no handler for it yet, or have ended with its own code.
fn end_after(running: Running, after: Duration, is_killed: bool, own: Option<i32>) {
    let _ = wait::try_until(after, || running.has_ended().then_some(()));
    if is_killed {
        drop(running.kill());
        return;
    }
    send(&running, Signal::TERM);
    let ended = running.wait();
    assert!([None, Some(143), own.or(Some(143))].contains(&ended.code), "{ended}");
}
