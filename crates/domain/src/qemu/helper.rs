//! Programs that serve one QEMU.

use std::fmt;

use crate::text::quote;

/// A program that is started before QEMU, serves it through a socket, and ends when QEMU leaves that.
///
/// It is the user's, as QEMU is; when it returns to its starter, it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// Its name, found in `PATH`.
    pub program: &'static str,
    /// The Debian package that holds it.
    pub package: &'static str,
    /// The words after its name.
    pub words: Vec<String>,
}

impl fmt::Display for Helper {
    /// Writes it as a shell is given it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program)?;
        self.words.iter().try_for_each(|word| write!(f, " {}", quote(word)))
    }
}
