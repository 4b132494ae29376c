//! Programs that serve a QEMU process: they start before it and exit with it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use maqet_adapters_linux::limits::KILL_TIMEOUT;
use maqet_adapters_linux::private_file::{private_file, private_folder};
use maqet_adapters_linux::process::{CaptureError, Captured, Group, PidScope, capture, command_line, display_status};
use maqet_adapters_linux::{LinuxProcesses, ProcessEnvironment, ProgramError, process};
use maqet_domain::port::{LaunchError, Processes};
use maqet_domain::qemu::Helper;
use maqet_domain::vm::ProcessIdentity;

use super::error::io_error;
use crate::limits::{HELPER_TIMEOUT, MAX_HELPER_OUTPUT_BYTES};

/// Runs a program so that only the user can read the files that it creates; a process can only change its own umask.
const PRIVATELY: &str = r#"umask 077 && exec "$0" "$@""#;

/// The file that says that a run has helpers: one that is starting does not listen yet.
const MARK: &str = "helpers";

/// Starts helpers, one after the other, with sockets in the folder of a run; each listens at its socket when this returns.
///
/// The caller ends those that were started before an error, with [`end`].
pub(super) async fn start(
    environment: &ProcessEnvironment,
    helpers: &[Helper],
    folder: &Path,
) -> Result<(), LaunchError> {
    if !helpers.is_empty() {
        let mark = folder.join(MARK);
        private_file(&mark).map_err(|error| io_error("create", &mark, error))?;
    }
    for helper in helpers {
        start_one(environment, helper).await?;
    }
    Ok(())
}

async fn start_one(environment: &ProcessEnvironment, helper: &Helper) -> Result<(), LaunchError> {
    let program = find_program(environment, helper.program, helper.package)?;
    if let Some(directory) = &helper.directory {
        private_folder(directory).map_err(|error| io_error("create the directory", directory, error))?;
    }
    let mut command = environment.english_command(Path::new("/bin/sh"));
    command.args(["-c", PRIVATELY]).arg(&program).args(&helper.args).current_dir("/");

    // It daemonizes once it listens, and must not keep files of this process open.
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    let failed = |stderr_tail| LaunchError::HelperFailed { program: helper.program, stderr_tail };
    // Not in a new group, which is killed with its leader: the daemon leaves the group a moment later.
    match capture(command, Stdio::null(), Group::Inherited, HELPER_TIMEOUT, MAX_HELPER_OUTPUT_BYTES).await {
        Ok(captured) if captured.status.success() => Ok(()),
        Ok(captured) => Err(failed(last_line(&captured))),
        Err(CaptureError::Spawn(error) | CaptureError::Io(error)) => Err(io_error("run", &program, error)),
        Err(CaptureError::TimedOut) => Err(failed(format!("it did not listen within {HELPER_TIMEOUT:?}"))),
        Err(CaptureError::OutputTooLarge) => {
            Err(failed(format!("it printed more than {} KiB", MAX_HELPER_OUTPUT_BYTES >> 10)))
        }
    }
}

/// Finds a program that a launch runs beside QEMU; `package` is the Debian package that has it.
///
/// Errors: `HelperNotFound`, and `Io` if it may not be run.
pub(super) fn find_program(
    environment: &ProcessEnvironment,
    program: &'static str,
    package: &'static str,
) -> Result<PathBuf, LaunchError> {
    environment.find(OsStr::new(program)).map_err(|error| match error {
        ProgramError::NotFound => LaunchError::HelperNotFound { program, package },
        ProgramError::NotExecutable(path, error) => io_error("run", &path, error),
    })
}

/// Returns the last line of a helper's output that is not about its own log.
fn last_line(captured: &Captured) -> String {
    let stderr = String::from_utf8_lossy(&captured.output.stderr);
    let is_about_log = |line: &&str| line.starts_with("Failed to send ") && line.ends_with(" to syslog");
    let last = stderr.lines().map(str::trim).rfind(|line| !line.is_empty() && !is_about_log(line));
    last.map_or_else(|| format!("it ended with {}", display_status(captured.status)), str::to_owned)
}

/// Returns the files of helpers in the folder of a run: their sockets, and the mark.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| is_socket(path) || path.file_name().is_some_and(|name| name == MARK)).collect()
}

/// Returns whether a path is that of a socket of a helper.
fn is_socket(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.starts_with(b"card-") && name.ends_with(b".sock") || name == b"tpm.sock"
}

/// Kills the helpers of the runs with these folders and waits for their exit; helpers exit on their own with their QEMU.
pub(super) async fn end(folders: &[PathBuf]) {
    for helper in kill(folders) {
        LinuxProcesses::new().wait_for_exit(&helper, KILL_TIMEOUT).await;
    }
}

/// Kills the helpers of the runs with these folders, and returns them.
///
/// They are found by their command lines: one that was interrupted while it daemonized has written no pid file, and one
/// that is starting has no socket yet. One that daemonizes during the search may be missed together with its child
/// process, so the search is repeated until it finds no other.
pub(super) fn kill(folders: &[PathBuf]) -> Vec<ProcessIdentity> {
    // Most runs have none, and then no process is looked at.
    if folders.iter().all(|folder| files(folder).is_empty()) {
        return Vec::new();
    }
    let scope = PidScope::current();
    let search = || scope.pids().filter(|pid| serves(&command_line(*pid), folders));
    let mut killed: Vec<ProcessIdentity> = Vec::new();
    loop {
        let found = search().filter_map(|pid| scope.identify(pid)).filter(|helper| !killed.contains(helper));
        let found: Vec<ProcessIdentity> = found.collect();
        if found.is_empty() {
            return killed;
        }
        found.iter().for_each(process::kill);
        killed.extend(found);
    }
}

/// Returns whether a command line, whose arguments are terminated by NUL, is that of a helper with a socket in one of the
/// folders.
fn serves(command_line: &[u8], folders: &[PathBuf]) -> bool {
    let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
    let is_about_to_run = arguments.get(2).is_some_and(|script| *script == PRIVATELY.as_bytes()) && arguments.len() > 3;
    let arguments = if is_about_to_run { &arguments[3..] } else { &arguments[..] };
    let program = Path::new(OsStr::from_bytes(arguments[0])).file_name().unwrap_or_default();
    let is_here = |path: &[u8]| {
        let path = Path::new(OsStr::from_bytes(path));
        is_socket(path) && folders.iter().any(|folder| path.parent() == Some(folder))
    };
    let has_socket = arguments.windows(2).any(|pair| match pair[0] {
        b"--socket" => is_here(pair[1]),
        b"--ctrl" => pair[1].split(|byte| *byte == b',').any(|part| part.strip_prefix(b"path=").is_some_and(is_here)),
        _ => false,
    });
    let is_helper = program.as_bytes().starts_with(b"passt") || program == "swtpm";
    is_helper && has_socket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arguments: &[&str], expected: bool) {
        let folders = [PathBuf::from("/r/b1")];

        assert_eq!(serves(arguments.join("\0").as_bytes(), &folders), expected, "{arguments:?}");
    }

    #[test]
    fn test_serves_matches_sockets_in_the_folder_of_the_run() {
        check(&["passt", "--one-off", "--socket", "/r/b1/card-0.sock", "--runas"], true);
        check(&["/usr/bin/passt.avx2", "--socket", "/r/b1/card-0.sock"], true);
        check(&["passt", "--socket", "/r/b1/card-0.sock2"], false);
        check(&["passt", "--socket", "/r/b2/card-0.sock"], false);
        check(&["passt", "--socket", "/r/b1/b1/card-0.sock"], false);
        check(&["swtpm", "socket", "--ctrl", "type=unixio,path=/r/b1/tpm.sock"], true);
        check(&["swtpm", "socket", "--ctrl", "type=unixio,path=/r/b1/card-0.sock,mode=0600", "--daemon"], true);
        check(&["swtpm", "socket", "--ctrl", "type=unixio,path=/r/b1/card-0.sock2"], false);
        check(&["swtpm", "socket", "--tpmstate", "path=/r/b1/card-0.sock"], false);
        check(&["vi", "--socket", "/r/b1/card-0.sock"], false);
        check(&["passt"], false);
        check(&["/bin/sh", "-c", PRIVATELY, "/usr/bin/passt", "--socket", "/r/b1/card-0.sock"], true);
        check(&["/bin/sh", "-c", PRIVATELY], false);
        check(&["/bin/sh", "-c", "true", "/usr/bin/passt", "--socket", "/r/b1/card-0.sock"], false);
        check(&[], false);
    }
}
