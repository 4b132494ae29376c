//! Checks that no process or file remains of what ran in a directory.

use std::fs;
use std::path::Path;

use maqet_testkit::process;

use crate::Result;
use crate::failure::Failure;

/// Fails if processes of `folder` are running or files remain in it, and names them.
pub(crate) fn check(folder: &Path) -> Result<()> {
    let mut processes = process::naming(folder);
    processes.extend(process::at_home_in(folder));
    processes.sort_by_key(|one| one.pid);
    processes.dedup();
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());

    let left: Vec<String> = processes
        .into_iter()
        .map(|one| format!("process {}: {}", one.pid, one.command))
        .chain(files.map(|path| path.display().to_string()))
        .collect();
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::new("processes or files were left behind")
        .because(left.join("\n    "))
        .hint("tests and commands must end the processes they start and remove the files they create"))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn test_check_empty_folder_is_clean() {
        let folder = tempfile::tempdir().unwrap();

        assert!(check(folder.path()).is_ok());
    }

    #[test]
    fn test_check_remaining_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("mqleft")).unwrap();

        let failure = check(folder.path()).unwrap_err();

        assert!(std::error::Error::source(&failure).unwrap().to_string().ends_with("mqleft"));
    }

    #[test]
    fn test_check_process_with_its_home_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("cat")
            .env_clear()
            .env("HOME", folder.path().join("home"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();

        let failure = check(folder.path()).unwrap_err();
        drop(child.stdin.take());
        child.wait().unwrap();

        assert_eq!(std::error::Error::source(&failure).unwrap().to_string(), format!("process {}: cat", child.id()));
    }
}
