//! Finding and running other programs.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::Result;
use crate::failure::{Failure, OrFailure};

/// Returns the path of `program`, searched in PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Returns a command with a fixed locale and without standard input.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Runs a command that shares our output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().or_failure(|| format!("cannot run `{shown}`"))?;
    succeeded(&shown, status)
}

fn succeeded(shown: &str, status: ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { Err(Failure::new(format!("`{shown}` failed with {status}"))) }
}

/// Runs a command that shares our standard error, and hands each line of its standard output to `use_line`.
pub(crate) fn lines(command: &mut Command, mut use_line: impl FnMut(&str)) -> Result<()> {
    let shown = shown(command);
    let failure = || format!("cannot run `{shown}`");
    let mut child = command.stdout(Stdio::piped()).spawn().or_failure(failure)?;
    for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
        use_line(&line.or_failure(failure)?);
    }
    succeeded(&shown, child.wait().or_failure(failure)?)
}

/// Runs a command and returns its standard output; its standard error is shown only if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    bytes(command).map(|output| String::from_utf8_lossy(&output).into_owned())
}

/// Like [`output`], for binary output.
pub(crate) fn bytes(command: &mut Command) -> Result<Vec<u8>> {
    let shown = shown(command);
    let (status, stdout, stderr) = run_into_files(command).or_failure(|| format!("cannot run `{shown}`"))?;
    if status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&stderr);
    Err(Failure::new(format!("`{shown}` failed with {status}")).because(stderr.trim().to_owned()))
}

/// Runs a command with its output in files: a pipe would not end before the daemons do that it leaves running.
fn run_into_files(command: &mut Command) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let status = command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).status()?;
    Ok((status, read_all(&mut stdout)?, read_all(&mut stderr)?))
}

fn read_all(file: &mut File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// Returns a command as a line for a shell.
pub(crate) fn shown(command: &Command) -> String {
    let arguments = std::iter::once(command.get_program()).chain(command.get_args());
    let arguments: Vec<_> = arguments.map(|argument| argument.to_string_lossy()).collect();
    let quoter = shlex::Quoter::new().allow_nul(true);
    // A NUL is the only thing that cannot be quoted.
    quoter.join(arguments.iter().map(AsRef::as_ref)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn test_shown_spaces_and_quotes_can_be_pasted() {
        let mut command = Command::new("echo");
        command.args(["plain", "two words", "it's"]);

        assert_eq!(shown(&command), "echo plain 'two words' \"it's\"");
    }

    #[test]
    fn test_find_missing_program_is_none() {
        assert_eq!(find("no-such-program-anywhere"), None);
    }

    #[test]
    fn test_output_of_program_that_leaves_daemon_does_not_wait_for_it() {
        let began = Instant::now();

        let daemon = output(command("sh").args(["-c", "sleep 60 & echo $!"])).unwrap();

        run(command("kill").arg(daemon.trim())).unwrap();
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }

    #[test]
    fn test_output_failing_program_reports_its_stderr() {
        let failure = output(command("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();

        let cause = std::error::Error::source(&failure).unwrap().to_string();
        assert_eq!((failure.to_string().ends_with("exit status: 3"), cause.as_str()), (true, "why"));
    }
}
