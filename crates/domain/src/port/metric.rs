//! Metrics that are kept across processes.

use std::path::{Path, PathBuf};

use crate::error::{Cause, Explain, Explanation, Fault};
use crate::metric::{Measurement, MetricRecord};
use crate::text::quote;

/// Why metrics could not be kept, read or written to a file.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum MetricError {
    #[error("cannot read the metrics in `{}`", path.display())]
    Unreadable { path: PathBuf, source: Cause },
    #[error("the metrics in `{}` are damaged", path.display())]
    Damaged { path: PathBuf },
    #[error("the metrics in `{}` have version {found}; this maqet supports version {known}", path.display())]
    UnsupportedVersion { path: PathBuf, found: u32, known: u32 },
    #[error("cannot write `{}`", path.display())]
    Unwritable { path: PathBuf, source: Cause },
}

impl Explain for MetricError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Unreadable { .. } => Explanation::new("metrics.read-failed", Fault::Host)
                .hint("check the owner and the permissions of the file"),
            Self::Damaged { path } => Explanation::new("metrics.file-corrupt", Fault::Failed)
                .hint("run any other command, which starts the metrics over")
                .hint(format!("run `rm {}`", quote(&path.display().to_string()))),
            Self::UnsupportedVersion { .. } => {
                Explanation::new("metrics.version-unsupported", Fault::Host).hint("update maqet")
            }
            Self::Unwritable { .. } => Explanation::new("metrics.write-failed", Fault::Host)
                .hint("check that its directory exists, and who may write there"),
        }
    }
}

/// Whether measurements were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAdded {
    /// They were, or maqet has no directory yet to keep them in.
    Done,
    /// They were, and those of before are gone, because the file was damaged.
    StartedOver,
    /// Another process is adding some; nothing was added.
    Busy,
}

/// Keeps metrics, which many processes may change at once.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait MetricStore: Send + Sync {
    /// Adds measurements, without waiting for the disk or for other processes.
    ///
    /// Of a process that is killed, the measurements of each key are added as a whole or not at all. Errors: `Unwritable`,
    /// `UnsupportedVersion`.
    fn add(&self, measurements: &[Measurement]) -> Result<MetricsAdded, MetricError>;

    /// Returns all metrics.
    ///
    /// Errors: `Unreadable`, `Damaged`, `UnsupportedVersion`.
    fn read(&self) -> Result<MetricRecord, MetricError>;

    /// Replaces `file` by one with this content, which other users can read; an existing file keeps its mode.
    ///
    /// Readers get the old or the new content as a whole. Errors: `Unwritable`.
    fn publish(&self, file: &Path, content: &str) -> Result<(), MetricError>;
}
