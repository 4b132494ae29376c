//! The journal: a log of maqet's operations on a VM, next to the VM's records.

use std::path::Path;

use async_trait::async_trait;

use super::RecordError;

/// Appends lines to journals, which many processes may write at once.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Journal: Send + Sync {
    /// Appends a line (without line break) to `file`; creates the file and its directory, both private, where missing.
    ///
    /// The file stays bounded: once it is too large, its older half is dropped. Never follows a symbolic link, and
    /// writes regular files only. Errors: `Failed`.
    async fn append(&self, file: &Path, line: &str) -> Result<(), RecordError>;
}
