//! Disk images.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::lock::HeldLock;
use crate::error::{Cause, Explain, Fault};
use crate::size::ByteSize;
use crate::snapshot::{ImageSnapshot, SnapshotName};
use crate::storage::ImagePlan;

/// What an image tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// Its format, by QEMU's name.
    pub format: String,
    /// The size the guest sees.
    pub virtual_size: ByteSize,
    /// The space it takes on the host.
    pub actual_size: ByteSize,
    /// The snapshots inside it, in the order of their ids.
    pub snapshots: Vec<ImageSnapshot>,
}

/// A program that has an image open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// Its process.
    pub pid: u32,
    /// Its name.
    pub program: String,
}

pub(super) fn used_by(user: Option<&ImageUser>) -> String {
    user.map_or_else(String::new, |user| format!(" by `{}` (process {})", user.program.escape_debug(), user.pid))
}

/// Why an image could not be read, made or changed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is not there.
    #[error("there is no disk image `{}`", path.display())]
    Missing {
        /// Where it was expected.
        path: PathBuf,
    },
    /// What it is laid over is not there.
    #[error("there is no backing file `{}`", path.display())]
    BackingMissing {
        /// Where it was expected.
        path: PathBuf,
    },
    /// The program that works on images is not there.
    #[error("`{tool}` is not installed")]
    ToolMissing {
        /// The program.
        tool: String,
    },
    /// Somebody else has it open.
    #[error("the disk image `{}` is in use{}", path.display(), used_by(by.as_ref()))]
    InUse {
        /// The image.
        path: PathBuf,
        /// Who, where that is seen.
        by: Option<ImageUser>,
    },
    /// There is no space for it.
    #[error("there is no space left for the disk image `{}`", path.display())]
    Full {
        /// The image.
        path: PathBuf,
    },
    /// QEMU's tool refused.
    #[error("could not {action} the disk image `{}`: {last_words}", path.display())]
    Refused {
        /// What was tried, as in `create`.
        action: &'static str,
        /// The image.
        path: PathBuf,
        /// The tool's own message.
        last_words: String,
    },
    /// The file system refused.
    #[error("could not {action} `{}`", path.display())]
    Io {
        /// What was tried, as in `create the folder of`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: Cause,
    },
    /// It took too long.
    #[error("gave up to {action} the disk image `{}`", path.display())]
    TimedOut {
        /// What was tried.
        action: &'static str,
        /// The image.
        path: PathBuf,
    },
}

impl Explain for ImageError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "storage.missing",
            Self::BackingMissing { .. } => "storage.backing-missing",
            Self::ToolMissing { .. } => "host.tool-missing",
            Self::InUse { .. } => "storage.in-use",
            Self::Full { .. } => "storage.full",
            Self::Refused { .. } => "storage.refused",
            Self::Io { .. } => "storage.io",
            Self::TimedOut { .. } => "storage.timed-out",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::Missing { .. } | Self::BackingMissing { .. } => Fault::NotFound,
            Self::ToolMissing { .. } | Self::Full { .. } | Self::Io { .. } => Fault::Host,
            Self::InUse { .. } => Fault::Busy,
            Self::Refused { .. } => Fault::Failed,
            Self::TimedOut { .. } => Fault::TimedOut,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Missing { .. } => vec![
                "correct the path under `storage`".to_owned(),
                "give the entry a `size`, and maqet makes the image".to_owned(),
            ],
            Self::BackingMissing { .. } => vec!["correct the `backing_file` under `storage`".to_owned()],
            Self::ToolMissing { tool } => {
                vec![format!("install it (Debian: `apt install qemu-utils`), or put `{tool}` on PATH")]
            }
            Self::InUse { .. } => vec!["stop what uses it, or try again".to_owned()],
            Self::Full { .. } => vec!["free some space".to_owned()],
            Self::Io { .. } => vec!["look at the owner and the permissions of its folder".to_owned()],
            Self::Refused { .. } | Self::TimedOut { .. } => Vec::new(),
        }
    }
}

/// Works on disk images that no machine has open.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait DiskImages: Send + Sync {
    /// Runs `qemu-img --version` and returns the first line of its output.
    ///
    /// Errors: `ToolMissing`, `Refused`, `TimedOut`, `Io`.
    async fn tool_version(&self) -> Result<String, ImageError>;

    /// Returns whether there is something at `path`.
    async fn exists(&self, path: &Path) -> bool;

    /// Makes an image and the folder it is in; the file appears whole under its name or not at all, readable by its
    /// owner only. A file that appeared there in the meantime is kept and is no error.
    ///
    /// Errors: `ToolMissing`, `Full`, `Refused` (a backing file that is missing or broken), `Io`.
    async fn create(&self, plan: &ImagePlan) -> Result<(), ImageError>;

    /// Makes a qcow2 image with the content of another image; it appears whole or not at all, as with
    /// [`DiskImages::create`].
    ///
    /// Errors: `Missing` (there is no `from`), `ToolMissing`, `Full`, `Refused`, `Io`.
    async fn convert(&self, from: &Path, from_format: &str, to: &Path) -> Result<(), ImageError>;

    /// Returns what an image tells of itself; also while a machine has it open.
    ///
    /// Errors: `Missing`, `ToolMissing`, `Refused`, `TimedOut`.
    async fn info(&self, path: &Path) -> Result<ImageInfo, ImageError>;

    /// Returns who has an image open, where that is seen.
    async fn user(&self, path: &Path) -> Option<ImageUser>;

    /// Makes a snapshot; the caller has checked that the name is free.
    ///
    /// `guard` is the lock of the VM: it is held for as long as the program works on the image, whatever becomes of us.
    ///
    /// Errors: `Missing`, `ToolMissing`, `InUse`, `Full`, `Refused`, as the two that follow.
    async fn create_snapshot(&self, path: &Path, name: &SnapshotName, guard: &HeldLock) -> Result<(), ImageError>;

    /// Puts the image back to a snapshot.
    async fn load_snapshot(&self, path: &Path, name: &str, guard: &HeldLock) -> Result<(), ImageError>;

    /// Removes a snapshot.
    async fn remove_snapshot(&self, path: &Path, name: &str, guard: &HeldLock) -> Result<(), ImageError>;
}
