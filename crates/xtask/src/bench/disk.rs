//! Work that is mostly done by `qemu-img`: snapshots of a stopped VM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::compare::{output, timed};
use super::env::{Env, json};
use super::row::{Bar, Row};
use crate::Result;
use crate::failure::{Failure, OrFailure};

const YAML: &str = "name: disks\naccel: tcg\nmemory: 32M\nstorage:\n  - {name: hdd, type: qcow2, size: 64M}\n";

/// Snapshots of both images when they are listed.
const LISTED: [&str; 3] = ["clean", "installed", "tested"];

pub(crate) fn snapshot(env: &Env<'_>) -> Result<Vec<Row>> {
    let yaml = env.home.write("disks.yaml", YAML);
    output(env.maqet([std::ffi::OsStr::new("add"), yaml.as_os_str()]))?;
    for name in LISTED {
        output(env.maqet(["snapshot", "create", "disks", "hdd", name]))?;
    }
    let ours = image(env)?;
    let theirs = env.home.path("theirs.qcow2");
    fs::copy(&ours, &theirs).or_failure(|| format!("cannot copy `{}`", ours.display()))?;

    let create = env.compare("`snapshot create`, stopped", "qemu-img snapshot -c", Bar::Plus(8)).run(
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
    let ls = env.compare("`snapshot ls`, stopped", "qemu-img info", Bar::Plus(8)).run(
        |_| timed(env.maqet(["snapshot", "ls", "disks", "hdd"])),
        |_| {
            let mut info = env.other("qemu-img", ["info", "--output", "json"]);
            info.arg(&theirs);
            timed(info)
        },
    )?;
    Ok(vec![create, ls])
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
