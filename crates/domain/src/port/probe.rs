//! Checks of the host, for `maqet doctor`.

use std::path::{Path, PathBuf};

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

/// What is known of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryState {
    /// It exists, or something else with its path does.
    Found(DirectoryFacts),
    /// It does not exist, and can be created.
    Missing,
    /// It does not exist, and cannot be created in `parent`, its first directory that exists.
    NotCreatable {
        /// That directory.
        parent: PathBuf,
        /// Why.
        reason: String,
    },
    /// Whether it exists cannot be found out, because `parent` cannot be entered.
    Hidden {
        /// The directory that cannot be entered.
        parent: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A directory that this user cannot read, enter or write to, or a file that cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedPath {
    /// Its path.
    pub path: PathBuf,
    /// Whether it belongs to this user, who may then change its mode.
    pub is_ours: bool,
    /// The user ID of its owner.
    pub owner: u32,
    /// Its permissions.
    pub mode: u32,
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
    /// Returns what is known of a directory.
    async fn directory(&self, path: &Path) -> DirectoryState;

    /// Returns the directories in a directory of maqet, and in those, that this user cannot read, enter or write to.
    async fn closed_directories(&self, path: &Path) -> Vec<ClosedPath>;

    /// Returns the files in a directory of maqet that this user cannot read or write, and those in the directories in it;
    /// `depth` 1 is the directory alone.
    async fn closed_files(&self, path: &Path, depth: usize) -> Vec<ClosedPath>;

    /// Makes a directory private (0700).
    ///
    /// Errors: those of the file system.
    async fn close_directory(&self, path: &Path) -> Result<(), Cause>;

    /// Returns the free space where `path` is or would be created.
    async fn space(&self, path: &Path) -> Option<Space>;

    /// Returns the number of files a process may have open.
    fn open_files(&self) -> u64;
}
