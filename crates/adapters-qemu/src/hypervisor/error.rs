//! The error of a file of a launch.

use std::io;
use std::path::Path;

use maqet_domain::port::LaunchError;

/// Returns the error of `action` on `path`.
pub(super) fn io_error(action: &'static str, path: &Path, error: io::Error) -> LaunchError {
    LaunchError::Io { action, path: path.to_owned(), source: error.into() }
}
