//! The records of a run: its logs and its QMP log, read while they grow.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::error::{Cause, Explain, Explanation, Fault};
use crate::vm::BootNumber;

/// A part of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// Where it begins, in bytes: the offset that was asked for, or the end of the hole there, whose content was
    /// dropped.
    pub offset: u64,
    /// The bytes read.
    pub bytes: Vec<u8>,
    /// The length of the record at that moment, in bytes; if it shrank, the record was replaced.
    pub length: u64,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum RecordError {
    #[error("`{}` not found", path.display())]
    NotFound { path: PathBuf },
    #[error("cannot read `{}`", path.display())]
    Failed { path: PathBuf, source: Cause },
}

impl Explain for RecordError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound { .. } => Explanation::new("log.file-not-found", Fault::NotFound)
                .hint("start the VM; only the newest boots keep their logs"),
            Self::Failed { .. } => {
                Explanation::new("log.read-failed", Fault::Host).hint("check the owner and the permissions of the file")
            }
        }
    }
}

/// Reads the records of runs, past and current.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Records: Send + Sync {
    /// Returns at most `limit` bytes of `file` from `offset` on, or from the end of the hole there; nothing if it ends
    /// before that.
    ///
    /// Never follows a symbolic link, and reads regular files only. Errors: `NotFound`, `Failed`.
    async fn read(&self, file: &Path, offset: u64, limit: usize) -> Result<Chunk, RecordError>;

    /// Gives back the space of the older content of a log that takes more than `max_bytes`; positions in it stay valid.
    ///
    /// A missing file is not an error. Errors: `Failed`.
    async fn bound(&self, file: &Path, max_bytes: u64) -> Result<(), RecordError>;

    /// Returns whether a log takes more than `max_bytes`; one that is missing or cannot be read does not.
    ///
    /// What is reserved of it may count as well.
    async fn exceeds(&self, file: &Path, max_bytes: u64) -> bool;

    /// Reserves space for `bytes` more of a log, so that they can be written even if the disk is full by then.
    ///
    /// A missing file is not an error, nor is a file system that cannot reserve space. Errors: `Failed`.
    async fn reserve(&self, file: &Path, bytes: u64) -> Result<(), RecordError>;

    /// Returns the boots of a VM that have records, oldest first; none if they cannot be read.
    async fn boots(&self, vm_records: &Path) -> Vec<BootNumber>;
}
