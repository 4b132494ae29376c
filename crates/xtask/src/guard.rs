//! Cleaning up after a chore that was interrupted.
//!
//! A chore that makes a folder starts a guard: this program again, in a process group of its own, so that Ctrl-C does
//! not reach it, at the other end of a pipe. When the pipe closes without a farewell the chore is dead, by whatever
//! means, and the guard ends the processes that name the folder and removes it.

use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use maqet_testkit::process;

use crate::Result;
use crate::failure::{Failure, OrFailure};

/// What a chore says when it has cleaned up by itself.
const FAREWELL: &str = "done";

/// A command of the chore that was interrupted too may still be about to start QEMU; it is given this long.
const LATECOMERS: Duration = Duration::from_millis(300);

/// A guard at work; dropped without [`dismiss`](Self::dismiss), it cleans up.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// Starts a guard over `folder`.
    pub(crate) fn over(folder: &Path) -> Result<Self> {
        // The folder goes through the pipe: on the command line, the guard would count as one of its processes.
        let mut child = Command::new("/proc/self/exe")
            .arg0("xtask")
            .arg("guard")
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()
            .or_failure(|| "cannot start the guard that cleans up after Ctrl-C".to_owned())?;
        let told = child.stdin.as_mut().map(|pipe| writeln!(pipe, "{}", folder.display()));
        told.unwrap_or(Ok(())).or_failure(|| "the guard that cleans up after Ctrl-C does not listen".to_owned())?;
        Ok(Self(child))
    }

    /// Lets the guard go: all is cleaned up.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _gone_already = writeln!(pipe, "{FAREWELL}");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _reaped = self.0.wait();
    }
}

/// The guard itself, listening to its chore on standard input.
pub(crate) fn run() -> Result<()> {
    watch(io::stdin().lock())
}

fn watch(mut chore: impl BufRead) -> Result<()> {
    let mut folder = String::new();
    chore.read_line(&mut folder).or_failure(|| "cannot read which folder to guard".to_owned())?;
    let folder = PathBuf::from(folder.trim_end());
    let is_ours = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mq"));
    if !folder.is_absolute() || !is_ours {
        return Err(Failure::new(format!("`{}` is not a folder of a chore", folder.display()))
            .hint("chores start the guard by themselves; there is nothing to call by hand"));
    }

    let mut farewell = String::new();
    // An error here means what the end of the pipe means.
    let _closed = chore.read_to_string(&mut farewell);
    if farewell.trim_end() != FAREWELL {
        clean(&folder);
    }
    Ok(())
}

fn clean(folder: &Path) {
    process::kill_naming(folder);
    thread::sleep(LATECOMERS);
    process::kill_naming(folder);
    if folder.exists() {
        match fs::remove_dir_all(folder) {
            Ok(()) => anstream::eprintln!("interrupted; {} is cleaned up", folder.display()),
            Err(error) => anstream::eprintln!("interrupted; cannot remove {}: {error}", folder.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use maqet_testkit::TestHome;

    use super::*;

    #[test]
    fn test_watch_chore_that_dies_is_cleaned_up_after() {
        let home = TestHome::new();
        let mut sleeper = Command::new("sh")
            .args(["-c", "read line", "sh"])
            .arg(home.path("x"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();

        watch(format!("{}\n", home.root().display()).as_bytes()).unwrap();

        assert!(!sleeper.wait().unwrap().success());
        assert!(!home.root().exists());
    }

    #[test]
    fn test_watch_chore_that_says_farewell_is_left_alone() {
        let home = TestHome::new();

        watch(format!("{}\n{FAREWELL}\n", home.root().display()).as_bytes()).unwrap();

        assert!(home.root().exists());
    }

    #[test]
    fn test_watch_folder_of_someone_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();

        let refused = watch(format!("{}\n", folder.path().display()).as_bytes());

        assert!(refused.is_err());
        assert!(folder.path().exists());
    }
}
