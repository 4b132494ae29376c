//! Other programs: finding them, running them, and telling which one failed.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::failure::{Failure, OrFailure};

/// Returns where `program` is, looking through PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Returns a command with fixed language and no standard input.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Runs a command, its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().or_failure(|| format!("cannot run `{shown}`"))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("`{shown}` ended with {status}"))) }
}

/// Runs a command and returns its standard output; its standard error is shown only if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    bytes(command).map(|output| String::from_utf8_lossy(&output).into_owned())
}

/// Does the same where the output is no text.
pub(crate) fn bytes(command: &mut Command) -> Result<Vec<u8>> {
    let shown = shown(command);
    let output = command.output().or_failure(|| format!("cannot run `{shown}`"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("`{shown}` ended with {}", output.status)).because(said.trim().to_owned()))
}

/// Returns a command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=+./:,@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_shown_words_with_spaces_and_quotes_can_be_pasted() {
        let mut command = Command::new("echo");
        command.args(["plain", "two words", "it's"]);

        assert_eq!(shown(&command), r"echo plain 'two words' 'it'\''s'");
    }

    #[test]
    fn test_find_missing_program_is_none() {
        assert_eq!(find("no-such-program-anywhere"), None);
    }

    #[test]
    fn test_output_failing_program_tells_what_it_said() {
        let failure = output(command("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();

        let cause = std::error::Error::source(&failure).unwrap().to_string();
        assert_eq!((failure.to_string().ends_with("exit status: 3"), cause.as_str()), (true, "why"));
    }
}
