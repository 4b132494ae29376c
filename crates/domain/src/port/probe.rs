//! Checks of the host, for `maqet doctor`.

use std::path::Path;

use async_trait::async_trait;

use crate::error::Cause;

/// Owner and permissions of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryFacts {
    /// The user ID of its owner.
    pub owner: u32,
    /// Whether the owner is this user.
    pub is_ours: bool,
    /// Its permissions, as in `0o700`.
    pub mode: u32,
    /// Whether it is a directory, not a symbolic link or a file.
    pub is_directory: bool,
    /// Whether this user can write to it; false on a read-only file system.
    pub is_writable: bool,
}

/// Free space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// The bytes this user may still write.
    pub free_bytes: u64,
    /// Its size.
    pub bytes: u64,
    /// The number of files that may still be created; `None` if there is no limit.
    pub free_files: Option<u64>,
}

/// Checks the host.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Probe: Send + Sync {
    /// Returns owner and permissions of a directory; `None` if it does not exist.
    async fn directory(&self, path: &Path) -> Option<DirectoryFacts>;

    /// Makes a directory private (0700).
    ///
    /// Errors: those of the file system.
    async fn close_directory(&self, path: &Path) -> Result<(), Cause>;

    /// Returns the free space where `path` is or would be created.
    async fn space(&self, path: &Path) -> Option<Space>;

    /// Returns the number of files a process may have open.
    fn open_files(&self) -> u64;
}
