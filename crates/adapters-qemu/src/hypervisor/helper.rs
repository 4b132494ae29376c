//! Programs that serve a QEMU: started before it, and none of them left without it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use maqet_adapters_linux::limits::KILL_DEADLINE;
use maqet_adapters_linux::process::{
    CaptureError, Captured, Group, boot_id, capture, identity_of, in_words, is_alive, kill_now,
};
use maqet_adapters_linux::{ProcessEnvironment, Unfound};
use maqet_domain::port::LaunchError;
use maqet_domain::qemu::Helper;
use maqet_domain::vm::ProcessIdentity;

use super::places::failed;
use crate::limits::{CONNECT_PAUSE, HELPER_DEADLINE, HELPER_OUTPUT_BYTES};

/// Starts helpers, one after the other; each listens at its socket when this returns.
///
/// What was started before one that fails is ended by [`end`].
pub(super) async fn start(environment: &ProcessEnvironment, helpers: &[Helper]) -> Result<(), LaunchError> {
    for helper in helpers {
        start_one(environment, helper).await?;
    }
    Ok(())
}

async fn start_one(environment: &ProcessEnvironment, helper: &Helper) -> Result<(), LaunchError> {
    let program = environment.find(OsStr::new(helper.program)).map_err(|unfound| match unfound {
        Unfound::Missing => LaunchError::HelperMissing { program: helper.program, package: helper.package },
        Unfound::NotRunnable(path, why) => failed("run", &path, why),
    })?;
    let mut command = environment.plain_command(&program);
    command.args(&helper.words).current_dir("/");

    // It goes into the background once it listens, with nothing of ours open.
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    let refused = |last_words| LaunchError::HelperRefused { program: helper.program, last_words };
    // Not in a group of its own, which ends with its starter: what goes into the background leaves it a moment later.
    match capture(command, Stdio::null(), Group::Ours, HELPER_DEADLINE, HELPER_OUTPUT_BYTES).await {
        Ok(captured) if captured.status.success() => Ok(()),
        Ok(captured) => Err(refused(last_words(&captured))),
        Err(CaptureError::Spawn(why) | CaptureError::Io(why)) => Err(failed("run", &program, why)),
        Err(CaptureError::TimedOut) => Err(refused(format!("it did not listen within {HELPER_DEADLINE:?}"))),
        Err(CaptureError::TooMuch) => Err(refused("it wrote without end".to_owned())),
    }
}

/// Returns the last line a helper wrote that is not about its own log.
fn last_words(captured: &Captured) -> String {
    let said = String::from_utf8_lossy(&captured.stderr);
    let is_about_log = |line: &&str| line.starts_with("Failed to send ") && line.ends_with(" to syslog");
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty() && !is_about_log(line));
    last.map_or_else(|| format!("it ended with {}", in_words(captured.status)), str::to_owned)
}

/// Returns the sockets of helpers in the folder of a run.
pub(super) fn sockets(folder: &Path) -> Vec<PathBuf> {
    let is_one = |name: &[u8]| name.starts_with(b"card-") && name.ends_with(b".sock");
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| is_one(name.as_bytes())))
        .collect()
}

/// Ends the helpers that listen at these sockets; those whose QEMU is gone have ended by themselves.
pub(super) fn end(sockets: &[PathBuf]) {
    if sockets.is_empty() {
        return;
    }
    let found = serving(sockets);
    found.iter().for_each(kill_now);
    let (boot, until) = (boot_id(), Instant::now() + KILL_DEADLINE);
    while found.iter().any(|process| is_alive(process, &boot)) && Instant::now() < until {
        std::thread::sleep(CONNECT_PAUSE);
    }
}

/// Returns the processes that were told to listen at these sockets.
///
/// By their words: one that was cut off while it went into the background wrote its pid nowhere.
fn serving(sockets: &[PathBuf]) -> Vec<ProcessIdentity> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let helper = |pid: u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        serves(&words, sockets).then(|| identity_of(pid))?
    };
    entries.flatten().filter_map(|entry| helper(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Returns whether these words, each ended by a NUL, are those of a helper at one of the sockets.
fn serves(words: &[u8], sockets: &[PathBuf]) -> bool {
    let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
    let program = Path::new(OsStr::from_bytes(words[0])).file_name().unwrap_or_default();
    let is_there = |socket: &PathBuf| {
        words.windows(2).any(|pair| pair[0] == b"--socket" && pair[1] == socket.as_os_str().as_bytes())
    };
    program.as_bytes().starts_with(b"passt") && sockets.iter().any(is_there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &[&str], expected: bool) {
        let sockets = [PathBuf::from("/r/b1/card-0.sock")];

        assert_eq!(serves(words.join("\0").as_bytes(), &sockets), expected, "{words:?}");
    }

    #[test]
    fn test_serves_helper_of_this_socket_alone_is_recognised() {
        check(&["passt", "--one-off", "--socket", "/r/b1/card-0.sock", "--runas"], true);
        check(&["/usr/bin/passt.avx2", "--socket", "/r/b1/card-0.sock"], true);
        check(&["passt", "--socket", "/r/b1/card-0.sock2"], false);
        check(&["passt", "--socket", "/r/b2/card-0.sock"], false);
        check(&["vi", "--socket", "/r/b1/card-0.sock"], false);
        check(&["passt"], false);
        check(&[], false);
    }
}
