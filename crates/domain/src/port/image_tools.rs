//! Long work on disk images: checks, copies, conversions, changes of the size.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::disk::{ImageError, ImageUse};
use super::lock::HeldLock;
use crate::size::ByteSize;
use crate::storage::{FileId, UnusableImage};

/// Work on an image: what it holds, and where it reports.
///
/// A tool that works on a temporary file is killed when the future is dropped, and the file is removed.
#[derive(Clone, Copy)]
pub struct ImageWork<'a> {
    /// The lock of the VM, which stays held while the tool works, even if this process is killed.
    pub guard: &'a HeldLock,
    /// Is called at least every half second while the tool reports its progress: how much is done, and of how much.
    pub progress: &'a (dyn Fn(u64, u64) + Send + Sync),
}

/// An image and its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// Its path.
    pub path: PathBuf,
    /// Its format, as QEMU names it.
    pub format: String,
}

/// An image of a chain: that of a drive, or one of its backing files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageLink {
    /// Its path.
    pub path: PathBuf,
    /// Its format, as far as it is known.
    pub format: Option<String>,
    /// The size the guest sees, if the format is known.
    pub virtual_size: Option<ByteSize>,
    /// The space it takes on the host.
    pub actual_size: Option<ByteSize>,
    /// Which file it is, whatever the path.
    pub file: Option<FileId>,
    /// Why it cannot be used; it is then the last of its chain.
    pub problem: Option<UnusableImage>,
}

/// What `qemu-img check` repairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ImageRepair {
    /// Clusters that are not used any more, which only waste space.
    Leaks,
    /// All errors; data that has two owners is copied.
    All,
}

/// What a check of an image found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageCheck {
    /// Errors of its tables, after a repair if there was one.
    pub corruptions: u64,
    /// Clusters that are not used any more, after a repair if there was one.
    pub leaks: u64,
    /// Errors that kept the check from its end.
    pub check_errors: u64,
    /// Errors that were repaired.
    pub corruptions_fixed: u64,
    /// Leaks that were repaired.
    pub leaks_fixed: u64,
    /// Clusters with data.
    pub allocated_clusters: u64,
    /// Compressed clusters among them.
    pub compressed_clusters: u64,
}

impl ImageCheck {
    /// Returns whether nothing is wrong with the image.
    pub const fn is_clean(&self) -> bool {
        self.leaks == 0 && !self.has_errors()
    }

    /// Returns whether there is more to repair than lost space: that changes the content.
    pub const fn has_errors(&self) -> bool {
        self.corruptions > 0 || self.check_errors > 0
    }
}

/// An image to write from the content of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewritePlan {
    /// The image that is read.
    pub from: ImageFile,
    /// The image that is written; the same path as that of `from` replaces it.
    pub to: ImageFile,
    /// Whether its data is compressed.
    pub is_compressed: bool,
    /// Whether it keeps the backing file of `from`, and the properties of its format; else it has all data, and the
    /// properties of a new image.
    pub keeps_backing: bool,
}

/// Long work on disk images, through `qemu-img`, that no VM has open.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait ImageTools: Send + Sync {
    /// Returns an image and its backing files, as their headers describe them.
    async fn chain(&self, image: &ImageUse) -> Vec<ImageLink>;

    /// Returns the path without symbolic links, and which file it is; `None` if it does not exist.
    async fn identify(&self, path: &Path) -> Option<(PathBuf, FileId)>;

    /// Returns when a file was last written; `None` if it does not exist.
    async fn modified(&self, path: &Path) -> Option<Timestamp>;

    /// Returns whether an image has data at or behind an offset of what the guest sees.
    ///
    /// Zeros that take space are data, too.
    async fn has_data(&self, image: &ImageFile, from: ByteSize) -> Result<bool, ImageError>;

    /// Returns whether two images have the same content; zeros at the end of the larger one do not matter.
    async fn has_same_content(&self, image: &ImageFile, other: &ImageFile) -> Result<bool, ImageError>;

    /// Checks an image, and repairs what `repair` names; `None` for a format that has nothing to check.
    ///
    /// Errors, also of the methods below: `NotFound`, `ToolNotFound`, `InUse`, `Full`, `Refused`, `TimedOut`, `Io`.
    async fn check<'w>(
        &self,
        image: &ImageFile,
        repair: Option<ImageRepair>,
        work: &ImageWork<'w>,
    ) -> Result<Option<ImageCheck>, ImageError>;

    /// Copies a file byte by byte to a new file, without its holes; nothing is left of it on an error.
    async fn copy<'w>(&self, from: &Path, to: &Path, work: &ImageWork<'w>) -> Result<(), ImageError>;

    /// Changes the size of an image in place; one that gets smaller loses what is behind its new end.
    async fn resize<'w>(
        &self,
        image: &ImageFile,
        size: ByteSize,
        may_shrink: bool,
        work: &ImageWork<'w>,
    ) -> Result<(), ImageError>;

    /// Copies what an image has into its backing file, in place; the image stays as it is.
    async fn commit<'w>(&self, image: &ImageFile, work: &ImageWork<'w>) -> Result<(), ImageError>;

    /// Writes an image under a temporary name; it is removed on an error, and unless it is put in place.
    async fn rewrite<'w>(
        &self,
        plan: &RewritePlan,
        work: &ImageWork<'w>,
    ) -> Result<Box<dyn RewrittenImage>, ImageError>;

    /// Removes what killed processes left of an image that they wrote under a temporary name.
    async fn remove_incomplete(&self, path: &Path);

    /// Removes a file if it is this one; returns whether it was.
    async fn remove(&self, path: &Path, file: FileId) -> Result<bool, ImageError>;
}

/// A complete image under a temporary name, which is removed on drop.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait RewrittenImage: Send + Sync {
    /// Returns which file it is, and stays.
    fn file(&self) -> FileId;

    /// Returns the space it takes on the host.
    fn actual_size(&self) -> ByteSize;

    /// Renames it to the path of its plan, which it replaces only if it is that of the image that was read.
    ///
    /// Errors: `InUse` and `Changed` if the image that was read is open or was changed meanwhile, `Exists`, `Io`.
    fn put_in_place(self: Box<Self>) -> Result<(), ImageError>;
}
