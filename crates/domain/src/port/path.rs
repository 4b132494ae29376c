//! Paths of the host.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::error::{Cause, Explain, Explanation, Fault};
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

/// Why a file of the user could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum FileError {
    #[error("`{}` not found", path.display())]
    NotFound { path: PathBuf },
    #[error("`{}` is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("`{}` has more than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: usize },
    #[error("cannot read `{}`", path.display())]
    Failed { path: PathBuf, source: Cause },
}

impl Explain for FileError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound { .. } => Explanation::new("config.file-not-found", Fault::NotFound)
                .hint("correct the path in the definition, or create the file"),
            Self::NotAFile { .. } => {
                Explanation::new("config.file-invalid", Fault::Usage).hint("set the path of a regular file")
            }
            Self::TooLarge { .. } => {
                Explanation::new("config.file-too-large", Fault::Usage).hint("share large files with the guest instead")
            }
            Self::Failed { .. } => Explanation::new("config.file-unavailable", Fault::Host)
                .hint("check the owner and the permissions of the file"),
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

    /// Returns what a block device is a part or a view of, nearest first: the disk of a partition, the file of a loop
    /// device. Nothing for another path.
    async fn below(&self, path: &Path) -> Vec<PathBuf>;

    /// Returns the regular files in `directory` and in the directories directly in it, in order.
    ///
    /// Symbolic links, and names that begin with a dot, are left out; so is what cannot be read.
    async fn files(&self, directory: &Path) -> Vec<PathBuf>;

    /// Returns the content of a regular file of at most `limit` bytes; symbolic links are followed.
    ///
    /// Errors: `NotFound`, `NotAFile`, `TooLarge`, `Failed`.
    async fn read(&self, path: &Path, limit: usize) -> Result<Vec<u8>, FileError>;
}
