//! The environment of a process, taken once; nothing else in maqet reads it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// The variables of an environment; its copies share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    variables: Arc<BTreeMap<OsString, OsString>>,
}

impl Environment {
    /// Takes the environment of this process.
    pub fn of_this_process() -> Self {
        std::env::vars_os().collect()
    }

    /// Returns a variable, unless it is unset or empty.
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty())
    }

    /// Returns a variable that holds an absolute path; the XDG rules ignore relative ones.
    pub fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// Returns all variables.
    pub fn variables(&self) -> &Arc<BTreeMap<OsString, OsString>> {
        &self.variables
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let variables = variables.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { variables: Arc::new(variables) }
    }
}
