//! Logs that cannot be written.

use std::fmt;

use serde::Serialize;

/// Why the events and logs of a boot cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LogFailure {
    /// Their directory.
    pub directory: String,
    /// What the system reported.
    pub cause: String,
}

impl fmt::Display for LogFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, cause } = self;
        write!(f, "cannot write events, serial output and QEMU's messages to `{directory}`: {cause}; ")?;
        f.write_str("the VM runs, and they are lost until there is space")
    }
}
