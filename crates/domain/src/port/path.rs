//! Paths of the host.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::storage::FileKind;

/// The kind of file that a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathKind {
    /// Nothing, or nothing this user may see.
    NotFound,
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A block device that is not a drive for CDs.
    BlockDevice,
    /// A drive for CDs or DVDs.
    CdDrive,
    /// A character device, a socket, a FIFO.
    Other,
}

impl PathKind {
    /// Returns what a drive with this path is.
    pub const fn of_drive(self) -> FileKind {
        match self {
            Self::BlockDevice => FileKind::BlockDevice,
            Self::CdDrive => FileKind::CdDrive,
            Self::NotFound | Self::File | Self::Directory | Self::Other => FileKind::Regular,
        }
    }
}

/// Inspects paths of the host.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Paths: Send + Sync {
    /// Returns the kind of file that `path` names; symbolic links are followed.
    async fn kind(&self, path: &Path) -> PathKind;

    /// Returns `path` with every symbolic link and `..` resolved as far as it exists; the rest is appended as written.
    async fn resolve(&self, path: &Path) -> PathBuf;

    /// Returns the regular files in `directory` and in the directories directly in it, in order.
    ///
    /// Symbolic links, and names that begin with a dot, are left out; so is what cannot be read.
    async fn files(&self, directory: &Path) -> Vec<PathBuf>;
}
