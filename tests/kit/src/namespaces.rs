//! Tests in namespaces of their own: networks and mounts that nobody else sees, and that go with their last process.

use std::fs::{self, File};
use std::io::{Write, stderr};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Set for a test that runs in namespaces of its own.
const INSIDE: &str = "MAQET_TEST_INSIDE";

/// What the tests do there, each of which some kernel cannot. The mounts are seen by nobody else.
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

/// Runs `body` in namespaces of its own, in a process that runs nothing but the test of this name; on a host that has
/// none, says so and does nothing.
pub fn within(test: &str, body: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    if let Some(lack) = lack() {
        // `eprintln!` would be kept from view: the test passes.
        let told = writeln!(stderr(), "{test} is SKIPPED: this host has no networks of a test's own ({lack})");
        told.expect("standard error takes what is written");
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
/// What the test said, if it failed or if there is none of this name.
pub fn run(test: &str) -> Result<(), String> {
    let program = std::env::current_exe().expect("a program knows where it is");
    let mut child = unshare();
    child.arg(program).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = child.output().map_err(|why| format!("`unshare`: {why}"))?;

    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A name that no test has is no failure to Rust's runner: it runs none, and all of them pass.
    if output.status.success() && said.contains("test result: ok. 1 passed;") {
        return Ok(());
    }
    Err(format!("`{test}` did not pass in namespaces of its own: {}\n{said}{complained}", output.status))
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    // A process belongs to whom its folder in /proc belongs to.
    let is_root = fs::metadata("/proc/self").is_ok_and(|folder| folder.uid() == 0);
    command.args(if is_root { &["-n", "-m"][..] } else { &["-r", "-n", "-m"] });
    command
}
