//! Templates: VMs that have booted, kept for forks, and commands that run in such forks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use maqet_testkit::guest::{CountSector, DebianFiles, agent_yaml};
use maqet_testkit::{Maqet, TestHome, wait};
use serde_json::{Value, json};

/// What the guest that counts prints.
const COUNTS: &str = "serial:n=";

/// Writes the definition of a guest that counts, and of which a disk exists; returns its file and the disk.
fn counting(home: &TestHome) -> (PathBuf, PathBuf) {
    let disk = home.path("disk.qcow2");
    let mut create = Command::new("qemu-img");
    assert!(create.args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("4M").status().unwrap().success());
    let yaml = CountSector::yaml("web", &CountSector::write(home), &["one", "two"]);
    let yaml = yaml.replacen("size: 16M", &format!("file: {:?}", disk.display().to_string()), 1);
    (home.write("count.yaml", yaml), disk)
}

/// Makes a template of the guest that counts.
fn create(home: &TestHome, name: &str, file: &Path) -> Maqet {
    let create = home.maqet(["--format", "json", "template", "create", name]).arg(file);
    create.args(["--wait", COUNTS]).deadline(Duration::from_mins(3))
}

/// Returns the templates, each with why it is stale.
fn templates(home: &TestHome) -> Vec<(String, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let listed = home.json(&["template", "ls"]);
    let of = |one: &Value| (text(&one["name"]).unwrap(), text(&one["stale"]));
    listed["templates"].as_array().unwrap().iter().map(of).collect()
}

fn names(home: &TestHome) -> Vec<String> {
    home.json(&["ls"]).as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn assert_nothing_left(home: &TestHome) {
    assert_eq!((names(home), home.qemu_pids()), (Vec::new(), Vec::new()));
    assert_eq!(home.stale_files(), [] as [PathBuf; 0]);
    let below = ["storage", "checkpoints"].map(|name| home.data().join(name));
    let files = home.files().into_iter().filter(|path| below.iter().any(|directory| path.starts_with(directory)));
    assert_eq!(files.collect::<Vec<_>>(), [] as [PathBuf; 0]);
}

/// Nothing of the disks is written, the VM does not run, and it is stale once a disk has changed.
#[test]
fn test_template_is_kept_for_forks_and_stale_once_a_disk_changes() {
    let home = TestHome::new();
    let (file, disk) = counting(&home);
    let before = fs::read(&disk).unwrap();

    let created = create(&home, "count", &file).run().ok().json_value();

    assert_eq!((&created["name"], &created["wait"]), (&json!("count"), &json!([COUNTS])), "{created}");
    assert_eq!(templates(&home), [("count".to_owned(), None)]);
    assert_eq!(home.qemu_pids(), [0; 0]);
    let vm = created["vm"].as_str().unwrap();
    let forked = home.json(&["fork", &format!("{vm}@template"), "--name", "copy"]);
    assert_eq!(forked["forks"][0]["status"], "running", "{forked}");
    assert!(fs::read(&disk).unwrap() == before);
    let again = create(&home, "count", &file).run();
    assert_eq!(again.json_error()["error"]["code"], "template.exists", "{again}");
    let held = home.json_error(&["template", "rm", "count"], 4);
    assert_eq!(held["code"], "template.in-use", "{held}");
    home.json(&["rm", "copy", "--force", "--delete-storage"]);
    home.json(&["storage", "trash", "empty"]);

    let mut grow = Command::new("qemu-img");
    assert!(grow.arg("resize").arg("-q").arg(&disk).arg("8M").status().unwrap().success());
    let stale = templates(&home)[0].1.clone().unwrap();
    assert!(stale.contains("disk.qcow2"), "{stale}");

    assert_eq!(home.json_error(&["template", "rm", "cound"], 3)["code"], "template.not-found");
    home.json(&["template", "rm", "count"]);
    assert_nothing_left(&home);
}

/// Of one whose guest never comes so far, nothing is left, nor of one whose process is killed; and only one is made at once.
#[test]
fn test_template_that_is_not_completed_leaves_nothing() {
    let home = TestHome::new();
    let (file, _) = counting(&home);
    let create = |condition: &str, timeout: &str| {
        let create = home.maqet(["--format", "json", "template", "create", "count"]).arg(&file);
        create.args(["--wait", condition, "--boot-timeout", timeout]).deadline(Duration::from_mins(3))
    };

    let failed = create("serial:never", "2s").run();
    assert_eq!(failed.json_error()["error"]["code"], "wait.timed-out", "{failed}");
    assert_nothing_left(&home);

    let running = create("serial:never", "2m").spawn();
    wait::until(wait::LONG, "the guest to run", || {
        let vms = home.json(&["ls"]);
        (vms[0]["status"] == "running").then_some(())
    });
    drop(running.kill());
    wait::until(wait::LONG, "QEMU to end", || home.qemu_pids().is_empty().then_some(()));
    let both = [create(COUNTS, "2m").spawn(), create(COUNTS, "2m").spawn()].map(maqet_testkit::Running::wait);
    let codes: Vec<Option<i32>> = both.iter().map(|one| one.code).collect();
    assert!(codes.contains(&Some(0)) && codes.contains(&Some(4)), "{both:?}");
    assert_eq!(templates(&home), [("count".to_owned(), None)]);
    home.json(&["template", "rm", "count"]);
    assert_nothing_left(&home);
}

/// Returns the result of `maqet run` with these arguments in a guest with an agent.
fn run(home: &TestHome, arguments: &[&str]) -> Value {
    let run = home.maqet(["--format", "json", "run", "--capture", "--keep=never"]).args(arguments);
    run.deadline(Duration::from_mins(6)).run().ok().json_value()
}

/// A command in a fork of a template; a template that is stale is rebuilt first.
#[test]
fn test_run_goes_on_from_a_template_and_rebuilds_a_stale_one() {
    let home = TestHome::new();
    let mut yaml = agent_yaml("agent", &DebianFiles::built());
    yaml.push_str("rng: true\n");
    let file = home.write("agent.yaml", &yaml);
    let file = file.to_str().unwrap();
    let create = home.maqet(["--format", "json", "template", "create", "debian", file]);
    let created = create.deadline(Duration::from_mins(6)).run().ok().json_value();

    let ran = run(&home, &["--template", "debian", "--", "sh", "-c", "date +%s; exit 0"]);

    assert_eq!((&ran["outcome"], &ran["template"]), (&json!("exited"), &json!("debian")), "{ran}");
    assert_eq!(names(&home), [created["vm"].as_str().unwrap()]);
    // The clock is that of the host, not that of the checkpoint.
    let guest: i64 = ran["command"]["stdout"].as_str().unwrap().trim().parse().unwrap();
    let host = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!((guest - i64::try_from(host).unwrap()).abs() < 60, "{ran}");
    // The same definition goes on from it as well, another one boots.
    assert_eq!(run(&home, &[file, "--", "true"])["template"], "debian");
    let refused = home.maqet(["run", "--template", "debian", "--share", "/tmp", "--", "true"]).run();
    assert!(refused.code != Some(0) && refused.stderr.contains("--share"), "{refused}");

    home.json(&["template", "rm", "debian"]);
    home.add(&yaml);
    let create = home.maqet(["template", "create", "debian", "--vm", "agent"]);
    create.deadline(Duration::from_mins(6)).run().ok();
    home.json(&["apply", "agent", "--set", "labels.x=y"]);
    let stale = templates(&home)[0].1.clone().unwrap();
    assert!(stale.contains("definition"), "{stale}");
    let ran = run(&home, &["--template", "debian", "--", "true"]);
    assert!(ran["rebuilt"].as_str().unwrap().contains("definition"), "{ran}");
    assert_eq!(templates(&home), [("debian".to_owned(), None)]);
    home.json(&["template", "rm", "debian"]);
    home.json(&["rm", "agent"]);
    assert_nothing_left(&home);
}
