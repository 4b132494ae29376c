//! Programs that serve a QEMU process.

use std::fmt;

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
    /// Its arguments.
    pub args: Vec<String>,
}

impl fmt::Display for Helper {
    /// Writes a shell command.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program)?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quote(arg)))
    }
}
