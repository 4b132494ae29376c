//! Disk images.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::lock::HeldLock;
use crate::error::{Cause, Explain, Explanation, Fault};
use crate::size::ByteSize;
use crate::snapshot::ImageSnapshot;
use crate::storage::{ImageAccess, ImagePlan, SharedFileId, UnusableImage};

/// The properties of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// Its format, as QEMU names it.
    pub format: String,
    /// The size the guest sees.
    pub virtual_size: ByteSize,
    /// The space it takes on the host.
    pub actual_size: ByteSize,
    /// Its internal snapshots, ordered by ID.
    pub snapshots: Vec<ImageSnapshot>,
}

/// How a VM uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// The image.
    pub path: PathBuf,
    /// The format it is opened with; `None` for any.
    pub format: Option<String>,
    /// How it is opened.
    pub access: ImageAccess,
}

/// What the header of a usable image says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageSummary {
    /// The size the guest sees, if the format is known.
    pub virtual_size: Option<ByteSize>,
    /// Its backing file, if it has one that is a file.
    pub backing: Option<PathBuf>,
    /// Whether its data is in another file.
    pub has_data_file: bool,
    /// Whether it was not closed; QEMU repairs it when it opens it for writing.
    pub is_dirty: bool,
    /// Whether it is marked as corrupt; QEMU opens it for reading only.
    pub is_corrupt: bool,
    /// The format that the content suggests, if it differs from that of the use.
    pub resembles: Option<&'static str>,
    /// The first backing file that is opened as raw, and whose content suggests another format.
    pub foreign_backing: Option<ForeignBacking>,
}

/// A backing file that is opened as raw, and whose content suggests another format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignBacking {
    /// Its path.
    pub path: PathBuf,
    /// The image that has it as its backing file.
    pub overlay: PathBuf,
    /// The format that the content suggests.
    pub format: &'static str,
}

/// A process that has an image open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// The process ID.
    pub pid: u32,
    /// The name of its program.
    pub program: String,
}

pub(super) fn used_by(user: Option<&ImageUser>) -> String {
    user.map_or_else(String::new, |user| format!(" by `{}` (process {})", user.program.escape_debug(), user.pid))
}

/// Why an image could not be read, created or changed; `action` is a verb, as in `create`.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum ImageError {
    #[error("disk image `{}` not found", path.display())]
    NotFound { path: PathBuf },
    #[error("backing file `{}` not found", path.display())]
    BackingNotFound { path: PathBuf },
    #[error(transparent)]
    Unusable(#[from] UnusableImage),
    #[error("`{tool}` is not installed")]
    ToolNotFound { tool: String },
    /// Another process has it open; `by` is unknown for processes of other users.
    #[error("disk image `{}` is in use{}", path.display(), used_by(by.as_ref()))]
    InUse { path: PathBuf, by: Option<ImageUser> },
    #[error("disk image `{}` already exists", path.display())]
    Exists { path: PathBuf },
    /// It was written while its content was read.
    #[error("disk image `{}` was changed by another process", path.display())]
    Changed { path: PathBuf },
    #[error("no space left for disk image `{}`", path.display())]
    Full { path: PathBuf },
    #[error("not enough space for disk image `{}`: it takes up to {needed}, and {free} are free", path.display())]
    SpaceRequired { path: PathBuf, needed: ByteSize, free: ByteSize },
    #[error("cannot {action} disk image `{}`: {stderr}", path.display())]
    Refused { action: &'static str, path: PathBuf, stderr: String },
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: Cause },
    #[error("timed out trying to {action} disk image `{}`", path.display())]
    TimedOut { action: &'static str, path: PathBuf },
}

impl Explain for ImageError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound { .. } => {
                Explanation::new("storage.not-found", Fault::NotFound).hint("correct the path under `storage`")
            }
            Self::BackingNotFound { .. } => Explanation::new("storage.backing-not-found", Fault::NotFound)
                .hint("correct the `backing_file` under `storage`"),
            Self::Unusable(unusable) => unusable.explain(),
            Self::ToolNotFound { tool } => Explanation::new("host.tool-not-found", Fault::Host)
                .hint(format!("install it (Debian: `apt install qemu-utils`), or add `{tool}` to PATH")),
            Self::InUse { .. } => {
                Explanation::new("storage.in-use", Fault::Busy).hint("stop the process that uses it, or try again")
            }
            Self::Exists { .. } => {
                Explanation::new("storage.exists", Fault::State).hint("move the file away, or choose another path")
            }
            Self::Changed { .. } => Explanation::new("storage.conflict", Fault::Busy)
                .hint("stop what writes to it, and run the command again"),
            Self::Full { .. } | Self::SpaceRequired { .. } => {
                Explanation::new("storage.full", Fault::Host).hint("free some space")
            }
            Self::Refused { .. } => Explanation::new("storage.refused", Fault::Failed),
            Self::Io { .. } => Explanation::new("storage.io-failed", Fault::Host)
                .hint("check the owner and the permissions of its directory"),
            Self::TimedOut { .. } => Explanation::new("storage.timed-out", Fault::TimedOut),
        }
    }
}

/// Works on disk images that no VM has open.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait DiskImages: Send + Sync {
    /// Runs `qemu-img --version` and returns the first line of its output.
    ///
    /// Errors: `ToolNotFound`, `Refused`, `TimedOut`, `Io`.
    async fn tool_version(&self) -> Result<String, ImageError>;

    /// Returns whether `path` exists.
    async fn exists(&self, path: &Path) -> bool;

    /// Returns which file or block device is at `path`, as other hosts see it that have it; `None` if there is none, or if
    /// that is not known.
    async fn shared_id(&self, path: &Path) -> Option<SharedFileId>;

    /// Reads the header of an image and of its backing files, without `qemu-img`.
    ///
    /// Errors: `Unusable`, if QEMU would not open it, or should not; `Io`.
    async fn examine(&self, image: &ImageUse) -> Result<ImageSummary, ImageError>;

    /// Returns up to `bytes` bytes from the start of what the guest sees of a qcow2 or raw image, by its content.
    ///
    /// `None` if they are not simply in the file, as those of a backing file. Errors: `Unusable`, `Io`.
    async fn content_start(&self, image: &ImageUse, bytes: usize) -> Result<Option<Vec<u8>>, ImageError>;

    /// Returns an error if a QEMU or `qemu-img` has the image or one of its backing files open in a way that excludes
    /// this use.
    ///
    /// Errors: `InUse`.
    async fn require_unlocked(&self, image: &ImageUse) -> Result<(), ImageError>;

    /// Creates an image and its directory.
    ///
    /// The file appears complete or not at all, readable by its owner only. A file that another process created in the
    /// meantime is kept, and is not an error. Errors: `ToolNotFound`, `Full`, `Refused` (as for a missing or invalid
    /// backing file), `Io`.
    async fn create(&self, plan: &ImagePlan) -> Result<(), ImageError>;

    /// Creates a qcow2 image with the content of another image, complete or not at all.
    ///
    /// Errors: `NotFound` (no `from`), `ToolNotFound`, `Full`, `Refused`, `Io`.
    async fn convert(&self, from: &Path, from_format: &str, to: &Path) -> Result<(), ImageError>;

    /// Returns the properties of an image, even while a VM has it open.
    ///
    /// Errors: `NotFound`, `ToolNotFound`, `Refused`, `TimedOut`.
    async fn info(&self, path: &Path) -> Result<ImageInfo, ImageError>;

    /// Returns the process that has an image open, where that can be determined.
    async fn user(&self, path: &Path) -> Option<ImageUser>;

    /// Reads the snapshot table of a qcow2 image, also while QEMU has it open; ordered by the IDs as numbers.
    ///
    /// Errors: `NotFound`, `Refused` (not a qcow2 image, or an invalid table), `Io`.
    async fn snapshots(&self, path: &Path) -> Result<Vec<ImageSnapshot>, ImageError>;

    /// Creates a snapshot; the caller has checked that the image has none with this tag, its name inside the image.
    ///
    /// `guard` is the lock of the VM. It stays held while `qemu-img` works on the image, even if this process is
    /// killed. Errors, also of the two methods below: `NotFound`, `ToolNotFound`, `InUse`, `Full`, `Refused`.
    async fn create_snapshot(&self, path: &Path, tag: &str, guard: &HeldLock) -> Result<(), ImageError>;

    /// Reverts the image to a snapshot.
    async fn load_snapshot(&self, path: &Path, tag: &str, guard: &HeldLock) -> Result<(), ImageError>;

    /// Removes a snapshot.
    async fn remove_snapshot(&self, path: &Path, tag: &str, guard: &HeldLock) -> Result<(), ImageError>;

    /// Copies a small file that is no image, such as the state of a TPM, to another path, which it replaces; complete or not
    /// at all, readable by its owner only.
    ///
    /// Errors: `NotFound` (no `from`), `Full`, `Io`.
    async fn copy_state(&self, from: &Path, to: &Path) -> Result<(), ImageError>;

    /// Removes such a copy, if it exists.
    ///
    /// Errors: `Io`.
    async fn remove_state(&self, path: &Path) -> Result<(), ImageError>;

    /// Returns the ends of the names of such copies: of the files beside `path` that are named as it is, then `.` and more.
    ///
    /// Errors: `Io`.
    async fn state_copies(&self, path: &Path) -> Result<Vec<String>, ImageError>;
}
