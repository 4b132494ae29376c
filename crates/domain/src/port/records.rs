//! What a run leaves behind: its logs and its flight recorder, read as they grow.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::error::{Cause, Explain, Fault};
use crate::vm::BootNumber;

/// A part of a record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// What was read.
    pub bytes: Vec<u8>,
    /// How long the record was at that moment, in bytes; shorter than before, it is a new one.
    pub length: u64,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is no such record.
    #[error("there is no `{}`", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// It is there and cannot be read.
    #[error("could not read `{}`", path.display())]
    Failed {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: Cause,
    },
}

impl Explain for RecordError {
    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "record.missing",
            Self::Failed { .. } => "record.failed",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::Missing { .. } => Fault::NotFound,
            Self::Failed { .. } => Fault::Host,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Missing { .. } => vec!["start the VM; the newest boots keep their logs".to_owned()],
            Self::Failed { .. } => vec!["look at the owner and the permissions of the file".to_owned()],
        }
    }
}

/// Reads the records of runs: what QEMU and the guest wrote, whether or not they still do.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Records: Send + Sync {
    /// Returns what `file` holds from `offset` on, `limit` bytes at most; nothing where it ends before.
    ///
    /// Never follows a symbolic link, and reads regular files only. Errors: `Missing`, `Failed`.
    async fn read(&self, file: &Path, offset: u64, limit: usize) -> Result<Chunk, RecordError>;

    /// Returns the boots of a VM whose records are kept, the oldest first; none where nothing can be read.
    async fn boots(&self, vm_records: &Path) -> Vec<BootNumber>;
}
