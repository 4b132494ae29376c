//! PID namespaces, like those of containers and of the sandboxes of CI jobs.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write, stderr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::geteuid;

use crate::run::{Finished, Maqet};

/// Returns what the host lacks for PID namespaces.
#[must_use]
pub fn lack() -> Option<String> {
    let launcher = with_own_proc();
    match Command::new(&launcher[0]).args(&launcher[1..]).arg("true").output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(why) => Some(format!("`unshare`: {why}")),
    }
}

/// Returns whether a test has to be skipped, which it then reports.
#[must_use]
pub fn is_skipped(test: &str) -> bool {
    let Some(lack) = lack() else { return false };
    // The test passes, and `eprintln!` would be captured.
    let written = writeln!(stderr(), "{test} is SKIPPED: this host has no PID namespaces ({lack})");
    written.expect("standard error can be written");
    true
}

/// Returns the start of a command line that runs a program in a new PID namespace with a `/proc` of its own.
#[must_use]
pub fn with_own_proc() -> Vec<OsString> {
    unshare(&["--pid", "--fork", "--mount-proc"])
}

/// Returns the same for a namespace whose `/proc` is still that of the outer one.
#[must_use]
pub fn with_outer_proc() -> Vec<OsString> {
    unshare(&["--pid", "--fork"])
}

/// Returns the same for a namespace with a user namespace.
#[must_use]
pub fn with_own_users() -> Vec<OsString> {
    ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"].map(OsString::from).to_vec()
}

/// Returns the same for a namespace in which the directory `hidden` is an empty one.
#[must_use]
pub fn with_hidden(hidden: &Path) -> Vec<OsString> {
    let script = "mount -t tmpfs none \"$0\" && chmod 700 \"$0\" && exec \"$@\"";
    let mut launcher = unshare(&["--pid", "--fork", "--mount-proc", "sh", "-c", script]);
    launcher.push(hidden.into());
    launcher
}

fn unshare(arguments: &[&str]) -> Vec<OsString> {
    let user = (!geteuid().is_root()).then_some("--map-root-user");
    ["unshare"].into_iter().chain(user).chain(arguments.iter().copied()).map(OsString::from).collect()
}

/// A PID namespace that lasts until it is dropped, and everything in it with it.
#[derive(Debug)]
pub struct Container {
    unshare: Child,
    init: String,
}

impl Container {
    /// Makes a namespace whose first process does nothing.
    ///
    /// # Panics
    ///
    /// If the host has none.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it starts a process; a default should start nothing")]
    pub fn new() -> Self {
        let launcher = unshare(&["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", "echo up; read end"]);
        let mut unshare = Command::new(&launcher[0])
            .args(&launcher[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the host has PID namespaces");
        let mut line = String::new();
        let stdout = unshare.stdout.take().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("its first process writes");
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let init = fs::read_to_string(children).expect("the kernel lists children").trim().to_owned();
        Self { unshare, init }
    }

    /// Returns the start of a command line that runs a program in it.
    #[must_use]
    pub fn launcher(&self) -> Vec<OsString> {
        let user: &[&str] = if geteuid().is_root() { &[] } else { &["--user", "--preserve-credentials"] };
        let arguments = ["nsenter", "--target", &self.init, "--pid", "--mount"];
        arguments.iter().chain(user).map(OsString::from).collect()
    }

    /// Runs the CLI in it.
    #[track_caller]
    pub fn run(&self, maqet: Maqet) -> Finished {
        maqet.through(&self.launcher()).run()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ended = self.unshare.kill();
        let _reaped = self.unshare.wait();
    }
}
