//! Tests in namespaces of their own: private networks and mounts, which end with their last process.

use std::fs::{self, File};
use std::io::{Write, stderr};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use crate::own_process;

/// What the tests do there, each of which fails on some kernels. The mounts are private.
const TRIAL: &str = "
    ip tuntap add dev tap0 mode tap
    ip link add br0 type bridge
    mount -t tmpfs none /tmp
    mkdir /tmp/up /tmp/work
    mount -t overlay none -o lowerdir=/etc,upperdir=/tmp/up,workdir=/tmp/work /etc";

/// Returns what the host lacks for a test with a network of its own.
pub fn lack() -> Option<String> {
    if let Err(why) = File::options().read(true).write(true).open("/dev/net/tun") {
        return Some(format!("/dev/net/tun: {why}"));
    }
    match unshare().args(["sh", "-e", "-c", TRIAL]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(why) => Some(format!("`unshare`: {why}")),
    }
}

/// Runs `body` with mounts of its own, in a process that runs only the test of this name, which includes its modules; on
/// a host that has no namespaces, reports the test as skipped.
pub fn within_mounts(test: &str, body: fn()) {
    if own_process::is_inside() {
        return body();
    }
    let trial = unshare_mounts().args(["mount", "-t", "tmpfs", "none", "/tmp"]).output();
    if !trial.is_ok_and(|output| output.status.success()) {
        let written = writeln!(stderr(), "{test} is SKIPPED: this host has no mounts of a test's own");
        written.expect("standard error can be written");
        return;
    }
    let mut runner = unshare_mounts();
    runner.arg(std::env::current_exe().expect("a program knows its path"));
    if let Err(why) = own_process::run(runner, test) {
        panic!("{why}");
    }
}

/// Runs `body` in namespaces of its own, in a process that runs only the test of this name, which includes its modules;
/// on a host that has no namespaces, reports the test as skipped.
pub fn within(test: &str, body: fn()) {
    if own_process::is_inside() {
        return body();
    }
    if let Some(lack) = lack() {
        // The test passes, and `eprintln!` would be captured.
        let written = writeln!(stderr(), "{test} is SKIPPED: this host has no networks of a test's own ({lack})");
        written.expect("standard error can be written");
        return;
    }
    if let Err(why) = run(test) {
        panic!("{why}");
    }
}

/// Runs a test of this program in namespaces of its own.
///
/// # Errors
///
/// The test's output, if it failed or if there is none of this name.
pub fn run(test: &str) -> Result<(), String> {
    let program = std::env::current_exe().expect("a program knows its path");
    let mut runner = unshare();
    runner.arg(program);
    own_process::run(runner, test)
}

fn unshare() -> Command {
    let mut command = unshare_mounts();
    command.arg("-n");
    command
}

fn unshare_mounts() -> Command {
    let mut command = Command::new("unshare");
    // The owner of a process is that of its folder in /proc.
    let is_root = fs::metadata("/proc/self").is_ok_and(|folder| folder.uid() == 0);
    command.args(if is_root { &["-m"][..] } else { &["-r", "-m"] });
    command
}
