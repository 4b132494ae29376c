//! The environment of child processes: an argument, never that of this process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::fs::{Access, access};

/// The environment of every child process; programs are found in its `PATH`.
///
/// It is complete, since QEMU needs `DISPLAY` and the like for its windows.
#[derive(Debug, Clone, Default)]
pub struct ProcessEnvironment(Arc<BTreeMap<OsString, OsString>>);

impl From<Arc<BTreeMap<OsString, OsString>>> for ProcessEnvironment {
    fn from(variables: Arc<BTreeMap<OsString, OsString>>) -> Self {
        Self(variables)
    }
}

impl FromIterator<(OsString, OsString)> for ProcessEnvironment {
    fn from_iter<T: IntoIterator<Item = (OsString, OsString)>>(variables: T) -> Self {
        Self(Arc::new(variables.into_iter().collect()))
    }
}

/// Variables that can contain the password of a database.
const SECRETS: [&str; 2] = ["MAQET_DATABASE", "PGPASSWORD"];

/// Why a program cannot be run.
#[derive(Debug)]
pub enum ProgramError {
    /// There is no such file.
    NotFound,
    /// The file cannot be executed.
    NotExecutable(PathBuf, io::Error),
}

impl ProcessEnvironment {
    /// Returns a command that runs `program` in this environment, without the variables that only maqet reads and that
    /// can contain a password: other processes of the user can read the environment of a QEMU as long as it runs.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = self.full_command(program);
        for name in SECRETS {
            command.env_remove(name);
        }
        command
    }

    /// Returns a command that runs `program` in exactly this environment, for programs that run `maqet` themselves.
    pub fn full_command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.0.iter());
        command
    }

    /// Returns whether a variable is set.
    pub fn has(&self, name: &OsStr) -> bool {
        self.0.contains_key(name)
    }

    /// Returns a command whose messages are in English, so that they can be matched.
    pub fn english_command(&self, program: &Path) -> Command {
        let mut command = self.command(program);
        command.env("LC_ALL", "C").env_remove("LANGUAGE");
        command
    }

    /// Finds a program by its path, or by its name in `PATH`.
    ///
    /// Relative folders in `PATH` are skipped, since they depend on the current folder.
    ///
    /// Errors: every [`ProgramError`].
    pub fn find(&self, program: &OsStr) -> Result<PathBuf, ProgramError> {
        if program.as_bytes().contains(&b'/') {
            let path = std::path::absolute(program).map_err(|_| ProgramError::NotFound)?;
            return executable(path);
        }
        if program.is_empty() {
            return Err(ProgramError::NotFound);
        }

        let path = self.0.get(OsStr::new("PATH")).map(OsString::as_os_str).unwrap_or_default();
        let mut failure = ProgramError::NotFound;
        for folder in std::env::split_paths(path).filter(|folder| folder.is_absolute()) {
            match executable(folder.join(program)) {
                Ok(found) => return Ok(found),
                Err(ProgramError::NotFound) => {}
                Err(error @ ProgramError::NotExecutable(..)) => failure = error,
            }
        }
        Err(failure)
    }
}

fn executable(path: PathBuf) -> Result<PathBuf, ProgramError> {
    let refused = |path, kind: io::ErrorKind| Err(ProgramError::NotExecutable(path, kind.into()));
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => refused(path, io::ErrorKind::IsADirectory),
        Ok(metadata) if !metadata.is_file() => refused(path, io::ErrorKind::InvalidInput),
        Ok(_) => match access(&path, Access::EXEC_OK) {
            Ok(()) => Ok(path),
            Err(error) => Err(ProgramError::NotExecutable(path, error.into())),
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(ProgramError::NotExecutable(path, error)),
        Err(_) => Err(ProgramError::NotFound),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn with_path(path: &str) -> ProcessEnvironment {
        [(OsString::from("PATH"), OsString::from(path))].into_iter().collect()
    }

    #[test]
    fn test_command_has_no_password_unless_it_runs_maqet() {
        let names = ["PATH", "PGPASSWORD", "MAQET_DATABASE"];
        let environment: ProcessEnvironment = names.map(|name| (name.into(), "x".into())).into_iter().collect();
        let set = |command: Command| command.get_envs().filter(|(_, value)| value.is_some()).count();

        assert_eq!(set(environment.command(Path::new("/bin/true"))), 1);
        assert_eq!(set(environment.full_command(Path::new("/bin/true"))), 3);
    }

    #[test]
    fn test_find_name_is_looked_up_in_given_path() {
        assert_eq!(with_path("/nonexistent:/bin").find(OsStr::new("sh")).unwrap(), Path::new("/bin/sh"));
        assert!(matches!(with_path("/nonexistent").find(OsStr::new("sh")), Err(ProgramError::NotFound)));
        assert!(matches!(ProcessEnvironment::default().find(OsStr::new("sh")), Err(ProgramError::NotFound)));
    }

    #[test]
    fn test_find_relative_folder_is_skipped() {
        assert!(matches!(with_path(".::bin").find(OsStr::new("sh")), Err(ProgramError::NotFound)));
    }

    #[test]
    fn test_find_file_without_permission_is_not_executable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tool");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();

        let found = ProcessEnvironment::default().find(file.as_os_str());

        assert!(matches!(found, Err(ProgramError::NotExecutable(..))), "{found:?}");
    }

    #[test]
    fn test_find_folder_is_not_executable() {
        let found = ProcessEnvironment::default().find(OsStr::new("/usr/bin"));

        assert!(matches!(found, Err(ProgramError::NotExecutable(..))), "{found:?}");
    }
}
