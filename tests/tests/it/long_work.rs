//! Long work reports its progress, and ends within a second once it is interrupted.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use maqet_testkit::{Maqet, TestHome, qemu, wait};
use serde_json::{Value, json};

use crate::backups::{content, create, disk, image_of, left_over, run, stopped_vm, write};
use crate::storage::interrupted::{slow_tool, wait_for_tool};

const SECOND: Duration = Duration::from_secs(1);

/// Interrupts a command once it is `ready`; it ends within a second, unless another load of the machine delays it each time.
fn interrupt(home: &TestHome, command: impl Fn() -> Maqet, ready: impl Fn(u32)) {
    let mut took = Duration::MAX;
    for _ in 0..5 {
        let _first_attempt = fs::remove_file(home.path("go.waits"));
        let running = command().spawn();
        ready(running.pid());
        run("kill", &["-INT", &running.pid().to_string()]);
        let at = Instant::now();
        let _interrupted = running.wait().code(130);
        took = at.elapsed();
        if took < SECOND {
            break;
        }
    }
    assert!(took < SECOND, "{took:?}");
}

/// Makes the image of a backup so long that it is read for a minute.
fn lengthen(image: &Path, directory: &Path) {
    const LENGTH: u64 = 1 << 40;
    fs::OpenOptions::new().write(true).open(image).unwrap().set_len(LENGTH).unwrap();
    let path = directory.join("backup.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["drives"][0]["file_bytes"] = json!(LENGTH);
    fs::write(&path, manifest.to_string()).unwrap();
}

#[test]
fn test_backup_verify_is_canceled_within_a_second() {
    let home = TestHome::new();
    stopped_vm(&home);
    let backup = create(&home);
    let verify = || home.maqet(["backup", "verify", "web", "--format", "json"]);

    // While another program checks an image.
    let path = slow_tool(&home, "check");
    interrupt(&home, || verify().env("PATH", &path), |_| wait_for_tool(&home));
    wait::until(wait::LONG, "the tool to end", || home.processes().is_empty().then_some(()));
    home.json(&["backup", "verify", "web"]);

    // While maqet reads one.
    let image = image_of(&backup, "a");
    lengthen(&image, Path::new(backup["directory"].as_str().unwrap()));
    interrupt(&home, verify, |pid| {
        let is_open = |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|target| target == image);
        wait::until(wait::LONG, "the image to be read", || {
            let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
            files.flatten().any(is_open).then_some(())
        });
    });
    assert_eq!(left_over(&home), Vec::<String>::new());
}

#[test]
fn test_backup_restore_is_canceled_within_a_second() {
    let home = TestHome::new();
    stopped_vm(&home);
    create(&home);
    let old = content(&home, &disk(&home, "a"));
    write(&home, "a", "write -P 9 0 4M");
    let new = content(&home, &disk(&home, "a"));
    let path = slow_tool(&home, "convert");

    let restore = || home.maqet(["backup", "restore", "web", "latest"]).env("PATH", &path);
    interrupt(&home, restore, |_| wait_for_tool(&home));

    wait::until(wait::LONG, "the tool to end", || home.processes().is_empty().then_some(()));
    assert!(content(&home, &disk(&home, "a")) == new, "the disk changed");
    let files = fs::read_dir(disk(&home, "a").parent().unwrap()).unwrap();
    assert_eq!(files.count(), 2, "something is left beside the disks");
    home.json(&["backup", "restore", "web", "latest"]);
    assert!(content(&home, &disk(&home, "a")) == old);
}

/// Converts a large image, of which the real `qemu-img` copies 16 MiB/s; returns the reports of progress.
fn reports_of_a_long_conversion() -> Vec<(Instant, u64)> {
    let home = TestHome::new();
    home.add(&(maqet_testkit::guest::paused_yaml("web") + "storage: [{name: a, size: 48M}]\n"));
    home.json(&["start", "web"]);
    home.json(&["stop", "web", "--force"]);
    write(&home, "a", "write -P 5 0 48M");
    let tool = qemu::image_tool();
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in convert) shift; exec {0} convert -r 16M \"$@\";; esac\nexec {0} \"$@\"\n",
        tool.display()
    );
    let slow = home.write("tools/qemu-img", script);
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", slow.parent().unwrap().display());

    let convert = home.maqet(["storage", "convert", "web", "a", "raw", "--format", "json"]).env("PATH", path);
    let mut command: Command = convert.into_command();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(|line| (Instant::now(), line.unwrap()));
    let lines: Vec<(Instant, Value)> = lines
        .map(|(at, line)| (at, serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))))
        .collect();
    assert!(child.wait().unwrap().success(), "{lines:?}");

    let done = |line: &Value| line["progress"]["done"].as_u64();
    lines.iter().filter_map(|(at, line)| Some((*at, done(line)?))).collect()
}

#[test]
fn test_progress_of_a_long_conversion_is_reported_twice_a_second() {
    const INTERVAL: Duration = Duration::from_millis(500);
    // For a host that is busy.
    const LATE: Duration = Duration::from_millis(650);
    let count = |reports: &[(Instant, u64)]| {
        let expected = (reports.last().unwrap().0 - reports.first().unwrap().0).as_millis() / INTERVAL.as_millis();
        (expected, reports.windows(2).filter(|pair| pair[1].0 - pair[0].0 > LATE).count())
    };
    let is_timely = |reports: &[(Instant, u64)]| {
        let (expected, late) = count(reports);
        reports.len() as u128 >= expected && late * 4 <= reports.len()
    };

    // Another load of the machine may delay some of them.
    let mut reports = reports_of_a_long_conversion();
    for _ in 0..4 {
        if !is_timely(&reports) {
            reports = reports_of_a_long_conversion();
        }
    }

    let (expected, late) = count(&reports);
    assert!(expected >= 4, "the conversion was too short to tell: {reports:?}");
    assert!(reports.len() as u128 >= expected, "{} reports instead of {expected}", reports.len());
    assert!(late * 4 <= reports.len(), "{late} of {} reports are late", reports.len());
    let (first, last) = (reports.first().unwrap(), reports.last().unwrap());
    assert!(reports.windows(2).all(|pair| pair[0].1 <= pair[1].1) && last.1 > first.1, "{reports:?}");
}
