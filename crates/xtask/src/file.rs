//! Files that commands share.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::Result;
use crate::failure::OrFailure;

/// Removes a file; one that does not exist is fine.
pub(crate) fn remove_if_exists(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).or_failure(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}
