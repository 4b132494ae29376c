//! What maqet did to a VM, kept as a log beside the VM's records.

use std::path::Path;

use async_trait::async_trait;

use super::RecordError;

/// Keeps logs of our own, one line a deed, written by many processes at once.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Journal: Send + Sync {
    /// Adds a line, which has no line break, to `file`; makes the file and its folder, both private, where they are missing.
    ///
    /// The file stays bounded: once it is too large, its older half goes. Never follows a symbolic link, and writes
    /// regular files only. Errors: `Failed`.
    async fn append(&self, file: &Path, line: &str) -> Result<(), RecordError>;
}
