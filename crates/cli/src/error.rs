//! Errors of the command line itself; operations return their own.

#![expect(clippy::needless_pass_by_value, reason = "the functions are arguments of `map_err`")]

use std::io;

use maqet::{ErrorReport, Explanation, Fault};

/// A command line that cannot be carried out as given.
pub(crate) fn usage(message: impl Into<String>) -> ErrorReport {
    ErrorReport::new(message, Explanation::new("usage.invalid", Fault::Usage))
}

/// A result that cannot be written, as standard output is full or broken.
pub(crate) fn output_failed(error: io::Error) -> ErrorReport {
    ErrorReport::new("cannot write the result", Explanation::new("output.failed", Fault::Failed)).cause(&error)
}

/// A terminal that cannot be read or configured.
pub(crate) fn terminal_failed(error: io::Error) -> ErrorReport {
    ErrorReport::new("cannot use the terminal", Explanation::new("host.io-failed", Fault::Host)).cause(&error)
}

/// A relative path that cannot be resolved, as the current folder is gone.
pub(crate) fn path_failed(error: io::Error) -> ErrorReport {
    ErrorReport::new("cannot find the current directory", Explanation::new("host.io-failed", Fault::Host)).cause(&error)
}
