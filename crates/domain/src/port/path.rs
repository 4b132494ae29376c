//! Paths of the host.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::error::{Cause, Explain, Explanation, Fault};
use crate::machine::FileAccess;
use crate::storage::FileKind;
use crate::text::quote;

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

/// What keeps this user from a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum PathObstacle {
    #[error("`{}` does not exist", path.display())]
    NotFound { path: PathBuf },
    /// A symbolic link to nothing.
    #[error("`{}` is a symbolic link to `{}`, which does not exist", path.display(), target.display())]
    DanglingLink { path: PathBuf, target: PathBuf },
    /// The directory above, or the file itself, that this user may not use.
    #[error("you may not use `{}`: {reason}", path.display())]
    Closed { path: PathBuf, reason: String },
}

impl PathObstacle {
    /// Returns how to remove it.
    pub fn hint(&self) -> String {
        let quoted = |path: &Path| quote(&path.to_string_lossy());
        match self {
            Self::NotFound { .. } => "create it, mount its volume, or correct the path".to_owned(),
            Self::DanglingLink { path, .. } => format!("correct the link, or remove it: `rm {}`", quoted(path)),
            Self::Closed { path, .. } => format!("correct its owner and its mode: `ls -ld {}`", quoted(path)),
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

    /// Returns what keeps this user from a file, if anything does; what cannot be found out is no obstacle.
    async fn obstacle(&self, path: &Path, access: FileAccess) -> Option<PathObstacle>;

    /// Returns whether a path that exists is in a mount of huge pages.
    async fn is_huge_pages(&self, path: &Path) -> bool;

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
