//! The files of checkpoints.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::backup::ByteProgress;
use crate::checkpoint::{
    CheckpointManifest, CheckpointName, CheckpointProblem, CopiedFile, MemoryFile, StateFile, StreamError,
};
use crate::error::{Cause, Explain, Explanation, Fault};

/// Why the files of a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum CheckpointFileError {
    /// There is a checkpoint of this name, or a file in its place.
    #[error("checkpoint `{name}` exists")]
    Exists { name: CheckpointName },
    #[error("no space left for the checkpoint in `{}`", path.display())]
    Full { path: PathBuf },
    #[error("cannot take the saved state apart")]
    Stream(#[from] StreamError),
    #[error("checkpoint in `{}` cannot be used: {problem}", path.display())]
    Unusable { path: PathBuf, problem: CheckpointProblem },
    /// A file is missing, or its content is not that of the manifest.
    #[error("checkpoint `{name}` is damaged: {what}")]
    Damaged { name: CheckpointName, what: String },
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: Cause },
}

impl Explain for CheckpointFileError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Exists { .. } => Explanation::new("checkpoint.exists", Fault::State)
                .hint("choose another name, or remove it with `maqet checkpoint rm`"),
            Self::Full { .. } => Explanation::new("checkpoint.disk-full", Fault::Host)
                .hint("free some space")
                .hint("remove old checkpoints with `maqet checkpoint rm`"),
            Self::Stream(source) => source.explain(),
            Self::Unusable { problem: CheckpointProblem::Newer { .. }, .. } => {
                Explanation::new("checkpoint.format-unsupported", Fault::Failed).hint("use the maqet that made it")
            }
            Self::Unusable { .. } | Self::Damaged { .. } => Explanation::new("checkpoint.corrupt", Fault::Failed)
                .hint("remove it with `maqet checkpoint rm`, and take another one"),
            Self::Io { .. } => Explanation::new("checkpoint.io-failed", Fault::Host)
                .hint("check the owner, the permissions and the disk of the directory"),
        }
    }
}

/// An unfinished checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedCheckpoint {
    /// Its directory.
    pub directory: PathBuf,
    /// The empty file in it for what QEMU saves; it is to be opened for writing without truncating it, as file systems
    /// write a file that was truncated to disk when it is closed, while the guest is paused.
    pub stream: PathBuf,
}

/// A complete checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundCheckpoint {
    /// Its directory.
    pub directory: PathBuf,
    /// What it has.
    pub manifest: CheckpointManifest,
}

/// The checkpoints in the directory of a VM.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckpointListing {
    /// The complete ones, the oldest first.
    pub checkpoints: Vec<FoundCheckpoint>,
    /// Those whose manifest cannot be used, each with the reason; their directories have the names of checkpoints.
    pub unusable: Vec<(PathBuf, CheckpointProblem)>,
    /// The directories of unfinished ones, and of those that are being removed.
    pub unfinished: Vec<PathBuf>,
}

/// What became of the state that QEMU saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenApart {
    /// The machine type with its version, as QEMU saved it.
    pub machine_type: String,
    /// The memory.
    pub ram: MemoryFile,
    /// The state of the devices.
    pub state: StateFile,
}

/// The files of checkpoints: one directory for each, below one for each VM.
///
/// All methods return the errors `Full` and `Io`.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait CheckpointFiles: Send + Sync {
    /// Creates an unfinished checkpoint, private to this user, and the missing directories above it.
    ///
    /// `vm` is the directory of the checkpoints of the VM. Errors also: `Exists`, if there is a checkpoint of this name or
    /// an unfinished one.
    async fn begin(&self, vm: &Path, name: &CheckpointName) -> Result<UnfinishedCheckpoint, CheckpointFileError>;

    /// Returns the IDs of VMs that have directories below `all`, the parent of those of the VMs.
    async fn vms(&self, all: &Path) -> Result<Vec<String>, CheckpointFileError>;

    /// Copies a file into an unfinished checkpoint under the name `file`.
    async fn copy(
        &self,
        unfinished: &Path,
        original: &Path,
        format: &str,
        file: &str,
    ) -> Result<CopiedFile, CheckpointFileError>;

    /// Takes the saved state of an unfinished checkpoint apart: the pages of the RAM block `memory` go to a sparse file,
    /// the rest to another one. What an interrupted call left is replaced; the saved state stays until
    /// [`publish`](Self::publish). If that was interrupted as well and nothing is left to do, returns the same again.
    ///
    /// `progress` is called with how many bytes of the saved state are done. Errors also: `Stream`.
    async fn take_apart<'p>(
        &self,
        unfinished: &Path,
        memory: &str,
        progress: ByteProgress<'p>,
    ) -> Result<TakenApart, CheckpointFileError>;

    /// Completes an unfinished checkpoint: writes the manifest, gives the directory its name, and removes the saved state.
    ///
    /// With `is_durable`, all is on disk when this returns. Errors also: `Exists`.
    async fn publish(
        &self,
        unfinished: &Path,
        manifest: &CheckpointManifest,
        is_durable: bool,
    ) -> Result<PathBuf, CheckpointFileError>;

    /// Returns the checkpoints of a VM; none if the directory does not exist.
    async fn list(&self, vm: &Path) -> Result<CheckpointListing, CheckpointFileError>;

    /// Checks the files of a checkpoint against its manifest: the state and the copies by their content, the memory by its
    /// length and when it was modified, and by its content if that differs or if it `is_thorough`.
    ///
    /// `progress` is called with how many bytes of the memory are done. Errors also: `Damaged`.
    async fn check<'p>(
        &self,
        checkpoint: &FoundCheckpoint,
        is_thorough: bool,
        progress: ByteProgress<'p>,
    ) -> Result<(), CheckpointFileError>;

    /// Leaves a note in the directory of an unfinished checkpoint that it is to be given up.
    async fn cancel(&self, unfinished: &Path) -> Result<(), CheckpointFileError>;

    /// Returns whether such a note is there.
    async fn is_canceled(&self, unfinished: &Path) -> bool;

    /// Removes the directory of a checkpoint, or of an unfinished one; it is no checkpoint any more from the first step on.
    /// One that does not exist is not an error.
    async fn remove(&self, directory: &Path) -> Result<(), CheckpointFileError>;
}
