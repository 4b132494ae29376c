//! The trash: images are moved to it and back by rename, and never copied.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::error::{Cause, Explain, Explanation, Fault};
use crate::text::quote;
use crate::trash::{TrashEntry, TrashId, TrashedImage, TrashedImageLocation};

/// Why the trash could not be read or changed; `action` is a verb, as in `move`.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum TrashError {
    /// A file is in the place to which an image is moved.
    #[error("cannot move disk image `{}` to `{}`: there is a file already", from.display(), to.display())]
    Exists { from: PathBuf, to: PathBuf },
    #[error("disk image `{}` not found", path.display())]
    NotFound { path: PathBuf },
    #[error("no space left to write `{}`", path.display())]
    Full { path: PathBuf },
    #[error("cannot {action} `{}`", path.display())]
    Failed { action: &'static str, path: PathBuf, source: Cause },
}

impl Explain for TrashError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Exists { to, .. } => Explanation::new("trash.image-exists", Fault::State)
                .hint(format!("move the other file away: {}", quote(&to.to_string_lossy()))),
            Self::NotFound { .. } => Explanation::new("trash.image-not-found", Fault::NotFound)
                .hint("mount its volume, or restore it from a backup"),
            Self::Full { .. } => Explanation::new("trash.full", Fault::Host)
                .hint("free some space; `maqet storage trash empty` deletes what is in the trash"),
            Self::Failed { .. } => Explanation::new("trash.failed", Fault::Host)
                .hint("check the owner and the permissions of its directory"),
        }
    }
}

/// What is needed to move a file to the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashPlace {
    /// Where it will be: on its own file system.
    pub trash: PathBuf,
    /// Its inode.
    pub inode: u64,
    /// The space that it takes on the host, in bytes.
    pub allocated_bytes: u64,
}

/// The trash of this user and database: entries that describe themselves.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Trash: Send + Sync {
    /// Returns the entries, oldest first; unreadable ones are left out.
    ///
    /// Errors: `Failed`, if the directory of the trash cannot be read.
    async fn entries(&self) -> Result<Vec<TrashEntry>, TrashError>;

    /// Returns the entry with this ID.
    async fn find(&self, id: &TrashId) -> Option<TrashEntry>;

    /// Returns the directory of an entry, for messages.
    fn directory(&self, id: &TrashId) -> PathBuf;

    /// Chooses where each of `images` would be in the entry `id`, and creates no file that stays.
    ///
    /// The place is in the directory of the trash where a rename to it is possible, and beside the image where it is not.
    /// The place of what is not a regular file is `None`. Errors: `Full`, `Failed`.
    async fn places(&self, id: &TrashId, images: &[PathBuf]) -> Result<Vec<Option<TrashPlace>>, TrashError>;

    /// Writes the description of an entry durably; its images are moved afterwards.
    ///
    /// Errors: `Full`, `Failed`.
    async fn describe(&self, entry: &TrashEntry) -> Result<(), TrashError>;

    /// Moves a file by rename, with the missing directories of `to`; nothing is replaced, and nothing is copied.
    ///
    /// Errors: `Exists`, `NotFound`, `Full`, `Failed`.
    async fn rename(&self, from: &Path, to: &Path) -> Result<(), TrashError>;

    /// Returns where an image of an entry is; `original` is the place that it had before, or is restored to.
    async fn locate(&self, image: &TrashedImage, original: &Path) -> TrashedImageLocation;

    /// Removes the description of an entry that holds no images any more, and its empty directories.
    ///
    /// Errors: `Failed`.
    async fn close(&self, entry: &TrashEntry) -> Result<(), TrashError>;

    /// Deletes an entry with the images that are in the trash; one that is interrupted is finished by `finish_deletions`.
    ///
    /// Errors: `Failed`.
    async fn delete(&self, entry: &TrashEntry) -> Result<(), TrashError>;

    /// Finishes deletions that were interrupted, and removes directories without an entry; returns their paths.
    ///
    /// With `dry_run`, only returns the paths. Call it while the lock of the trash is held.
    async fn finish_deletions(&self, dry_run: bool) -> Vec<PathBuf>;

    /// Makes the entries of the database `from` those of the database `to`. Call it while the lock of the trash is held.
    ///
    /// Errors: `Full`, `Failed`; some entries may be those of either database then.
    async fn hand_over(&self, from: &str, to: &str) -> Result<(), TrashError>;

    /// Removes a directory if it is empty, but for an empty file `left` that a program left there.
    async fn prune(&self, directory: &Path, left: &str);
}
