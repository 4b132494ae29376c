//! Backups: their directories, their images, and the bitmaps in disks.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::disk::ImageError;
use super::lock::HeldLock;
use crate::backup::{BackupManifest, FoundBackup};
use crate::error::{Cause, Explain, Explanation, Fault};
use crate::storage::qcow2_bitmap::StoredBitmap;

/// Why the directory of a backup cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum BackupStoreError {
    #[error("directory `{}` for backups does not exist", path.display())]
    NotFound { path: PathBuf },
    #[error("no space left for the backup in `{}`: it takes up to {needed_mib} MiB", path.display())]
    Full { path: PathBuf, needed_mib: u64 },
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: Cause },
}

impl Explain for BackupStoreError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound { path } => Explanation::new("backup.directory-not-found", Fault::NotFound)
                .hint(format!("create it with `mkdir {}`", crate::text::quote(&path.to_string_lossy())))
                .hint("mount the disk that it is on"),
            Self::Full { .. } => Explanation::new("backup.disk-full", Fault::Host)
                .hint("free some space")
                .hint("remove old backups with `maqet backup rm`")
                .hint("pass `--to` with a directory on another disk"),
            Self::Io { .. } => Explanation::new("backup.io-failed", Fault::Host)
                .hint("check the owner, the permissions and the disk of the directory"),
        }
    }
}

/// The backups in a directory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BackupListing {
    /// Those with a valid manifest, in any order.
    pub backups: Vec<FoundBackup>,
    /// Directories that are named as backups and have no valid manifest, each with what is wrong with it.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// What is recorded of an image once it is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its length.
    pub file_bytes: u64,
    /// Its CRC-32 (ISO-HDLC).
    pub crc32: u32,
}

/// Is called now and then with how many bytes are done.
pub type ByteProgress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// The directories of backups, and their files.
///
/// All methods return the errors `Full` and `Io`.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait BackupStore: Send + Sync {
    /// Returns the absolute path, without symbolic links, of the directory of a VM below `parent`.
    ///
    /// With `is_created`, creates it and, unless `must_exist`, its missing parents; private to this user. Errors also:
    /// `NotFound`, if `parent` must exist and does not.
    async fn directory(
        &self,
        parent: &Path,
        vm: &str,
        must_exist: bool,
        is_created: bool,
    ) -> Result<PathBuf, BackupStoreError>;

    /// Returns the backups in the directory of a VM; none if it does not exist.
    async fn list(&self, directory: &Path) -> Result<BackupListing, BackupStoreError>;

    /// Creates a private directory, such as that of an unfinished backup, which [`list`](Self::list) ignores.
    async fn begin(&self, directory: &Path) -> Result<(), BackupStoreError>;

    /// Creates an empty private file.
    async fn create_file(&self, path: &Path) -> Result<(), BackupStoreError>;

    /// Reserves space so that the file can grow to `bytes`; a file system that cannot reserve has enough free space now.
    async fn reserve(&self, file: &Path, bytes: u64) -> Result<(), BackupStoreError>;

    /// Releases what was reserved and not used, writes the file to disk, and computes its checksum.
    async fn complete<'p>(&self, file: &Path, progress: ByteProgress<'p>) -> Result<ImageFacts, BackupStoreError>;

    /// Returns the length and the checksum of a file.
    async fn examine<'p>(&self, file: &Path, progress: ByteProgress<'p>) -> Result<ImageFacts, BackupStoreError>;

    /// Writes the manifest of an unfinished backup, and gives its directory the name of the backup; both are on disk when
    /// this returns.
    async fn publish(&self, unfinished: &Path, manifest: &BackupManifest) -> Result<PathBuf, BackupStoreError>;

    /// Removes a backup or an unfinished one, with all its files; it is no backup any more from the first step on.
    async fn remove(&self, directory: &Path) -> Result<(), BackupStoreError>;

    /// Removes what interrupted backups and removals left in the directory of a VM, which the caller has locked.
    async fn sweep(&self, directory: &Path);

    /// Renames a file, replacing no other; both are on one file system.
    async fn rename(&self, from: &Path, to: &Path) -> Result<(), BackupStoreError>;
}

/// The images of backups, and the bitmaps in disks, without QEMU running.
///
/// All methods return the errors `ToolNotFound`, `InUse`, `Full`, `Refused`, `TimedOut` and `Io`.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait BackupImages: Send + Sync {
    /// Makes a file the empty image of a full backup.
    async fn create_full(&self, file: &Path, virtual_bytes: u64) -> Result<(), ImageError>;

    /// Makes a file the empty image of an increment; `base` is the image it builds on, as the image names it.
    async fn create_increment(&self, file: &Path, virtual_bytes: u64, base: &Path) -> Result<(), ImageError>;

    /// Returns how long a qcow2 with all data of a disk and of its backing files is, even while QEMU has it open.
    async fn full_bytes(&self, disk: &Path, format: &str) -> Result<u64, ImageError>;

    /// Returns the bitmaps in a disk; none of a format other than qcow2.
    async fn bitmaps(&self, disk: &Path) -> Result<Vec<StoredBitmap>, ImageError>;

    /// Removes a bitmap from a disk; `guard` as in [`DiskImages`](super::DiskImages).
    async fn remove_bitmap(&self, disk: &Path, name: &str, guard: &HeldLock) -> Result<(), ImageError>;
}
