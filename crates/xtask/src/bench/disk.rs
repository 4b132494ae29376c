//! Work that is mostly done by `qemu-img`, or by QEMU itself: snapshots.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use maqet_testkit::guest;

use super::baseline::{command_line, path_in};
use super::compare::{output, timed};
use super::env::{Env, json};
use super::monitor::Monitor;
use super::row::{Bar, Row};
use crate::Result;
use crate::failure::{Failure, OrFailure};

const YAML: &str = "name: disks\naccel: tcg\nmemory: 32M\nstorage:\n  - {name: hdd, type: qcow2, size: 64M}\n";

/// Snapshots of both images when they are listed.
const LISTED: [&str; 3] = ["clean", "installed", "tested"];

/// How many snapshots an image has in the end.
const MANY: usize = 500;

/// The VM whose snapshots are created while it is running.
const LIVE: &str = "live";

pub(crate) fn snapshot(env: &Env<'_>) -> Result<Vec<Row>> {
    define(env, YAML)?;
    for name in LISTED {
        output(env.maqet(["snapshot", "create", "disks", "hdd", name]))?;
    }
    let ours = image(env)?;
    let theirs = env.home.path("theirs.qcow2");
    let copied = || fs::copy(&ours, &theirs).or_failure(|| format!("cannot copy `{}`", ours.display()));
    copied()?;

    let create = env.compare("`snapshot create`, stopped", "qemu-img snapshot -c", Bar::Plus(6)).run(
        |round| {
            let name = format!("s{round}");
            let took = timed(env.maqet(["snapshot", "create", "disks", "hdd", &name]))?;
            output(qemu_img_snapshot(env, "-d", &name, &ours)).map(|_| took)
        },
        |round| {
            let name = format!("s{round}");
            let took = timed(qemu_img_snapshot(env, "-c", &name, &theirs))?;
            output(qemu_img_snapshot(env, "-d", &name, &theirs)).map(|_| took)
        },
    )?;
    let remove = env.compare("`snapshot rm`, stopped", "qemu-img snapshot -d", Bar::Plus(6)).run(
        |round| {
            let name = format!("s{round}");
            output(env.maqet(["snapshot", "create", "disks", "hdd", &name]))?;
            timed(env.maqet(["snapshot", "rm", "disks", "hdd", &name]))
        },
        |round| {
            let name = format!("s{round}");
            output(qemu_img_snapshot(env, "-c", &name, &theirs))?;
            timed(qemu_img_snapshot(env, "-d", &name, &theirs))
        },
    )?;
    let few = ls(env, "`snapshot ls`, stopped".to_owned(), Bar::Plus(3), &theirs)?;
    let live = live(env)?;
    for number in LISTED.len()..MANY {
        output(qemu_img_snapshot(env, "-c", &format!("m{number}"), &ours))?;
    }
    copied()?;
    let many = ls(env, format!("`snapshot ls` of {MANY}, stopped"), Bar::Times(2.0), &theirs)?;
    Ok(vec![create, remove, few, many, live])
}

fn ls(env: &Env<'_>, work: String, bar: Bar, theirs: &Path) -> Result<Row> {
    env.compare(work, "qemu-img info", bar).run(
        |_| timed(env.maqet(["snapshot", "ls", "disks", "hdd"])),
        |_| {
            let mut info = env.other("qemu-img", ["info", "--output", "json"]);
            info.arg(theirs);
            timed(info)
        },
    )
}

/// Measures snapshots of a running VM, with its memory. The CPU of its guest is stopped, so it takes no time.
fn live(env: &Env<'_>) -> Result<Row> {
    define(env, &format!("{}storage: [{{name: hdd, size: 64M}}]\n", guest::paused_yaml(LIVE)))?;
    let arguments = command_line(env, LIVE)?;
    let monitor = path_in(&arguments, "socket,id=qmp-free,")
        .ok_or_else(|| Failure::new("no external monitor on the command line"))?;
    output(env.maqet(["start", LIVE]))?;
    let row = env.compare("`snapshot create all --live`", "snapshot-save", Bar::Plus(15)).run(
        |round| {
            let name = format!("s{round}");
            let took = timed(env.maqet(["snapshot", "create", LIVE, "all", &name, "--live"]))?;
            output(env.maqet(["snapshot", "rm", LIVE, "all", &name, "--live"])).map(|_| took)
        },
        |round| {
            let tag = format!("s{round}");
            let began = Instant::now();
            let mut session = Monitor::connect(&monitor)?;
            session.run_job("snapshot-save", serde_json::json!({"tag": tag, "vmstate": "hdd", "devices": ["hdd"]}))?;
            let took: Duration = began.elapsed();
            session.run_job("snapshot-delete", serde_json::json!({"tag": tag, "devices": ["hdd"]}))?;
            Ok(took)
        },
    )?;
    output(env.maqet(["stop", LIVE, "--force"]))?;
    Ok(row)
}

fn define(env: &Env<'_>, yaml: &str) -> Result<()> {
    let file = env.home.write("disks.yaml", yaml);
    output(env.maqet([OsStr::new("add"), file.as_os_str()])).map(drop)
}

fn image(env: &Env<'_>) -> Result<PathBuf> {
    let info = json(env.maqet(["info", "disks", "--format", "json"]))?;
    let file = info["storage"][0]["file"].as_str();
    file.map(PathBuf::from).ok_or_else(|| Failure::new("`maqet info` does not report the path of the disk"))
}

fn qemu_img_snapshot(env: &Env<'_>, action: &str, name: &str, image: &Path) -> Command {
    let mut command = env.other("qemu-img", ["snapshot", action, name]);
    command.arg(image);
    command
}
