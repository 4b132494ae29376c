//! The environment of a process, read once; nothing else in maqet reads it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;

/// The variables of an environment; clones share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: Arc<BTreeMap<OsString, OsString>>,
}

impl Environment {
    /// Reads the environment of this process.
    pub fn from_process() -> Self {
        std::env::vars_os().collect()
    }

    /// Returns a variable, unless it is unset or empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.get_raw(OsStr::new(name)).filter(|value| !value.is_empty())
    }

    /// Returns a variable, even an empty one.
    pub fn get_raw(&self, name: &OsStr) -> Option<&OsStr> {
        self.variables.get(name).map(OsString::as_os_str)
    }

    /// Returns a variable that holds an absolute path; the XDG rules ignore relative ones.
    pub fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// Returns all variables, sorted by name.
    pub fn variables(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Returns the variables to pass on to child processes.
    pub(crate) fn shared(&self) -> Arc<BTreeMap<OsString, OsString>> {
        Arc::clone(&self.variables)
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { variables: Arc::new(variables) }
    }
}
