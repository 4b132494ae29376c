//! Programs that serve a QEMU process.

use std::fmt;
use std::path::PathBuf;

use crate::text::quote;

/// A program that is started before QEMU, serves it through a socket, and exits when QEMU disconnects.
///
/// It runs as the same user, and has moved to the background once its socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// Its name, searched for in `PATH`.
    pub program: &'static str,
    /// Its Debian package.
    pub package: &'static str,
    /// The directory to create for its files, private to the user, if it needs one.
    pub directory: Option<PathBuf>,
    /// Its arguments.
    pub args: Vec<String>,
}

impl fmt::Display for Helper {
    /// Writes a shell command, which creates the directory first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(directory) = &self.directory {
            write!(f, "mkdir -p -m 700 {} && ", quote(&directory.to_string_lossy()))?;
        }
        f.write_str(self.program)?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quote(arg)))
    }
}
