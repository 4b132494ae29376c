//! What the host has to offer, looked at closely: for those who want to know why something does not work.

use std::path::Path;

use async_trait::async_trait;

use crate::error::Cause;

/// What is known of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFacts {
    /// The user it belongs to.
    pub owner: u32,
    /// Whether that is us.
    pub is_ours: bool,
    /// Its permissions, as in `0o700`.
    pub mode: u32,
    /// Whether it is a folder, and not a link or anything else.
    pub is_folder: bool,
    /// Whether we may write to it; a file system that is read-only says no.
    pub is_writable: bool,
}

/// What is left of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that we may still write.
    pub free_bytes: u64,
    /// Its size.
    pub bytes: u64,
    /// Files that may still be made; `None` where there is no such limit.
    pub free_files: Option<u64>,
}

/// Looks at the host closely.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Probe: Send + Sync {
    /// Returns what is known of a folder; `None` if there is nothing.
    async fn folder(&self, path: &Path) -> Option<FolderFacts>;

    /// Makes a folder of ours private (0700).
    ///
    /// Errors: whatever the file system says.
    async fn close_folder(&self, path: &Path) -> Result<(), Cause>;

    /// Returns what is left where `path` is or would be made.
    async fn space(&self, path: &Path) -> Option<Space>;

    /// Returns how many files a process may have open.
    fn open_files(&self) -> u64;
}
