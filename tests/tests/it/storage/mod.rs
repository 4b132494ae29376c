//! `maqet storage`, on real images: what the guest's data is afterward, bit for bit.

mod content;
mod in_guide;
pub(crate) mod interrupted;
mod resize;
mod shared;

use std::path::{Path, PathBuf};
use std::process::Command;

use maqet_testkit::{TestHome, guest, qemu};

/// A VM that is not running, and its disks.
const VM: &str = "web";

/// Returns a home with a stopped VM whose disks exist.
fn home_with(storage: &str) -> TestHome {
    let home = TestHome::new();
    home.add(&yaml(storage));
    home.json(&["start", VM]);
    home.json(&["stop", VM, "--force"]);
    home
}

fn yaml(storage: &str) -> String {
    format!("{}storage:\n{storage}", guest::paused_yaml(VM))
}

/// Returns the path of the image of a drive without one in its definition.
fn image(home: &TestHome, name: &str) -> PathBuf {
    home.data().join("storage").join(VM).join(name)
}

/// Writes patterns to an image, each given as for `qemu-io`, as in `write -P 5 1M 2M`.
#[track_caller]
fn write_patterns(image: &Path, format: &str, patterns: &[&str]) {
    let commands = patterns.iter().flat_map(|pattern| ["-c", pattern]);
    let output = Command::new("qemu-io").args(["-f", format]).args(commands).arg(image).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Writes content that cannot be compressed, and is zero nowhere.
fn fill(image: &Path, mebibytes: usize) {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let content: Vec<u8> = (0..mebibytes << 17).flat_map(|_| next()).collect();
    let raw = image.with_extension("content");
    std::fs::write(&raw, content).unwrap();
    tool(&["convert", "-n", "-f", "raw", "-O", "qcow2", raw.to_str().unwrap(), image.to_str().unwrap()]);
    std::fs::remove_file(raw).unwrap();
}

/// Runs `qemu-img`.
#[track_caller]
fn tool(arguments: &[&str]) {
    let output = Command::new(qemu::image_tool()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

/// Returns a hash of what the guest sees.
#[track_caller]
fn content(image: &Path, format: &str) -> Vec<u8> {
    let raw = image.with_extension("seen");
    tool(&["convert", "-f", format, "-O", "raw", image.to_str().unwrap(), raw.to_str().unwrap()]);
    let sum = Command::new("sha256sum").stdin(std::fs::File::open(&raw).unwrap()).output().unwrap();
    std::fs::remove_file(raw).unwrap();
    assert!(sum.status.success());
    sum.stdout
}

/// Asserts that nothing of ours is left beside the disks: their directory has these files only.
#[track_caller]
fn assert_files(home: &TestHome, expected: &[&str]) {
    let mut found: Vec<String> = std::fs::read_dir(image(home, ""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, expected);
}
