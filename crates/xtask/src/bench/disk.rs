//! What is mostly work of `qemu-img`: snapshots of a VM that does not run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ground::{Ground, json};
use super::race::{timed, told};
use super::row::{Bar, Row};
use crate::Result;
use crate::failure::{Failure, OrFailure};

const YAML: &str = "name: disks\naccel: tcg\nmemory: 32M\nstorage:\n  - {name: hdd, type: qcow2, size: 64M}\n";

/// Snapshots both images have when they are listed.
const LISTED: [&str; 3] = ["clean", "installed", "tested"];

pub(crate) fn snapshot(ground: &Ground<'_>) -> Result<Vec<Row>> {
    let yaml = ground.home.write("disks.yaml", YAML);
    told(ground.maqet([std::ffi::OsStr::new("add"), yaml.as_os_str()]))?;
    for name in LISTED {
        told(ground.maqet(["snapshot", "create", "disks", "hdd", name]))?;
    }
    let ours = image(ground)?;
    let theirs = ground.home.path("theirs.qcow2");
    fs::copy(&ours, &theirs).or_failure(|| format!("cannot copy `{}`", ours.display()))?;

    let create = ground.race("`snapshot create`, stopped", "qemu-img snapshot -c", Bar::Plus(8)).run(
        |round| {
            let name = format!("s{round}");
            let took = timed(ground.maqet(["snapshot", "create", "disks", "hdd", &name]))?;
            told(qemu_img_snapshot(ground, "-d", &name, &ours)).map(|_| took)
        },
        |round| {
            let name = format!("s{round}");
            let took = timed(qemu_img_snapshot(ground, "-c", &name, &theirs))?;
            told(qemu_img_snapshot(ground, "-d", &name, &theirs)).map(|_| took)
        },
    )?;
    let ls = ground.race("`snapshot ls`, stopped", "qemu-img info", Bar::Plus(8)).run(
        |_| timed(ground.maqet(["snapshot", "ls", "disks", "hdd"])),
        |_| {
            let mut info = ground.other("qemu-img", ["info", "--output", "json"]);
            info.arg(&theirs);
            timed(info)
        },
    )?;
    Ok(vec![create, ls])
}

fn image(ground: &Ground<'_>) -> Result<PathBuf> {
    let info = json(ground.maqet(["info", "disks", "--format", "json"]))?;
    let file = info["storage"][0]["file"].as_str();
    file.map(PathBuf::from).ok_or_else(|| Failure::new("`maqet info` does not say where the disk is"))
}

fn qemu_img_snapshot(ground: &Ground<'_>, action: &str, name: &str, image: &Path) -> Command {
    let mut command = ground.other("qemu-img", ["snapshot", action, name]);
    command.arg(image);
    command
}
