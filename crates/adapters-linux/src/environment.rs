//! The environment programs are run in; given once, never read from our own process.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustix::fs::{Access, access};

/// The environment of every program this crate runs; its `PATH` is where they are looked for.
///
/// QEMU needs it whole, `DISPLAY` and the like for its windows.
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

/// Why a program was not found.
#[derive(Debug)]
pub enum Unfound {
    /// There is no such file.
    Missing,
    /// There is one, and it may not be run.
    NotRunnable(PathBuf, io::Error),
}

impl ProcessEnvironment {
    /// Returns a command that runs `program` in this environment and nothing else of ours.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.0.iter());
        command
    }

    /// Returns whether there is such a variable.
    pub fn has(&self, name: &OsStr) -> bool {
        self.0.contains_key(name)
    }

    /// Returns a command whose messages can be compared, because they are in English.
    pub fn plain_command(&self, program: &Path) -> Command {
        let mut command = self.command(program);
        command.env("LC_ALL", "C").env_remove("LANGUAGE");
        command
    }

    /// Finds a program: a path is taken as it is, a name is looked up in `PATH`.
    ///
    /// Folders of `PATH` that are not absolute are passed over: what they mean depends on where one stands.
    pub fn find(&self, wanted: &OsStr) -> Result<PathBuf, Unfound> {
        if wanted.as_bytes().contains(&b'/') {
            let path = std::path::absolute(wanted).map_err(|_| Unfound::Missing)?;
            return runnable(path);
        }
        if wanted.is_empty() {
            return Err(Unfound::Missing);
        }

        let path = self.0.get(OsStr::new("PATH")).map(OsString::as_os_str).unwrap_or_default();
        let mut unfound = Unfound::Missing;
        for folder in std::env::split_paths(path).filter(|folder| folder.is_absolute()) {
            match runnable(folder.join(wanted)) {
                Ok(found) => return Ok(found),
                Err(Unfound::Missing) => {}
                Err(refused @ Unfound::NotRunnable(..)) => unfound = refused,
            }
        }
        Err(unfound)
    }
}

fn runnable(path: PathBuf) -> Result<PathBuf, Unfound> {
    let refused = |path, kind: io::ErrorKind| Err(Unfound::NotRunnable(path, kind.into()));
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => refused(path, io::ErrorKind::IsADirectory),
        Ok(metadata) if !metadata.is_file() => refused(path, io::ErrorKind::InvalidInput),
        Ok(_) => match access(&path, Access::EXEC_OK) {
            Ok(()) => Ok(path),
            Err(why) => Err(Unfound::NotRunnable(path, why.into())),
        },
        Err(why) if why.kind() == io::ErrorKind::PermissionDenied => Err(Unfound::NotRunnable(path, why)),
        Err(_) => Err(Unfound::Missing),
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
    fn test_find_name_is_looked_up_in_the_given_path_only() {
        assert_eq!(with_path("/nonexistent:/bin").find(OsStr::new("sh")).unwrap(), Path::new("/bin/sh"));
        assert!(matches!(with_path("/nonexistent").find(OsStr::new("sh")), Err(Unfound::Missing)));
        assert!(matches!(ProcessEnvironment::default().find(OsStr::new("sh")), Err(Unfound::Missing)));
    }

    #[test]
    fn test_find_relative_folder_of_path_is_passed_over() {
        assert!(matches!(with_path(".::bin").find(OsStr::new("sh")), Err(Unfound::Missing)));
    }

    #[test]
    fn test_find_file_without_permission_is_not_runnable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tool");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();

        let found = ProcessEnvironment::default().find(file.as_os_str());

        assert!(matches!(found, Err(Unfound::NotRunnable(..))), "{found:?}");
    }

    #[test]
    fn test_find_folder_is_not_runnable() {
        let found = ProcessEnvironment::default().find(OsStr::new("/usr/bin"));

        assert!(matches!(found, Err(Unfound::NotRunnable(..))), "{found:?}");
    }
}
