//! Cleaning up after an interrupted task.
//!
//! A task that creates a directory starts a guard: this program again, in its own process group, so that Ctrl-C does
//! not reach it, at the other end of a pipe. If the pipe closes without [`DISMISSED`], the task has died; the guard
//! then ends the processes that name the directory and removes it.

use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use maqet_testkit::process;

use crate::Result;
use crate::failure::{Failure, OrFailure};

/// Sent by a task that has cleaned up itself.
const DISMISSED: &str = "done";

/// An interrupted command of the task can still be starting QEMU for this long.
const START_GRACE: Duration = Duration::from_millis(300);

/// A running guard; dropped without [`dismiss`](Self::dismiss), it cleans up.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// Starts a guard over `folder`.
    pub(crate) fn over(folder: &Path) -> Result<Self> {
        // Sent through the pipe, not as an argument: the guard would count as a process that names the folder.
        let mut child = Command::new("/proc/self/exe")
            .arg0("xtask")
            .arg("guard")
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()
            .or_failure(|| "cannot start the guard that cleans up after Ctrl-C".to_owned())?;
        let sent = child.stdin.as_mut().map(|pipe| writeln!(pipe, "{}", folder.display()));
        sent.unwrap_or(Ok(()))
            .or_failure(|| "cannot send the folder to the guard that cleans up after Ctrl-C".to_owned())?;
        Ok(Self(child))
    }

    /// Ends the guard; the task has cleaned up.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _gone_already = writeln!(pipe, "{DISMISSED}");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _reaped = self.0.wait();
    }
}

/// Runs the guard, which reads from its task on standard input.
pub(crate) fn run() -> Result<()> {
    watch(io::stdin().lock())
}

fn watch(mut task: impl BufRead) -> Result<()> {
    let mut folder = String::new();
    task.read_line(&mut folder).or_failure(|| "cannot read the folder to guard".to_owned())?;
    let folder = PathBuf::from(folder.trim_end());
    let is_ours = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mq"));
    if !folder.is_absolute() || !is_ours {
        return Err(Failure::new(format!("`{}` is not the folder of a task", folder.display()))
            .hint("tasks start the guard; do not run it yourself"));
    }

    let mut message = String::new();
    // An error means the same as the end of the pipe.
    let _closed = task.read_to_string(&mut message);
    if message.trim_end() != DISMISSED {
        clean(&folder);
    }
    Ok(())
}

fn clean(folder: &Path) {
    process::kill_naming(folder);
    thread::sleep(START_GRACE);
    process::kill_naming(folder);
    if folder.exists() {
        match fs::remove_dir_all(folder) {
            Ok(()) => anstream::eprintln!("interrupted; removed {}", folder.display()),
            Err(error) => anstream::eprintln!("interrupted; cannot remove {}: {error}", folder.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use maqet_testkit::TestHome;

    use super::*;

    #[test]
    fn test_watch_exited_task_is_cleaned_up() {
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
    fn test_watch_dismissed_guard_keeps_the_folder() {
        let home = TestHome::new();

        watch(format!("{}\n{DISMISSED}\n", home.root().display()).as_bytes()).unwrap();

        assert!(home.root().exists());
    }

    #[test]
    fn test_watch_folder_of_another_program_is_refused() {
        let folder = tempfile::tempdir().unwrap();

        let refused = watch(format!("{}\n", folder.path().display()).as_bytes());

        assert!(refused.is_err());
        assert!(folder.path().exists());
    }
}
