//! The host's side of copies between host and guest.

use std::path::PathBuf;

use async_trait::async_trait;

use crate::error::{Cause, Explain, Explanation, Fault};
use crate::guest::archive::InvalidArchive;
use crate::guest::copy::{CopyFilter, SourceFacts};

/// Why the host's side of a copy failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum HostFileError {
    #[error("`{}` does not exist", path.display())]
    NotFound { path: PathBuf },
    #[error("`{}` is neither a file nor a directory", path.display())]
    Unsupported { path: PathBuf },
    #[error("`{}` is a directory", path.display())]
    RecursiveRequired { path: PathBuf },
    #[error("the directory of `{}` does not exist", path.display())]
    ParentNotFound { path: PathBuf },
    /// It exists, and is of another kind.
    #[error("cannot replace `{}`: it is {kind}", path.display())]
    Conflict { path: PathBuf, kind: &'static str },
    #[error("`{}` was changed while it was read", path.display())]
    Changed { path: PathBuf },
    #[error("no space left for `{}`", path.display())]
    Full { path: PathBuf },
    #[error("the copy exceeds {limit}")]
    TooLarge { limit: String },
    #[error("the guest sent an invalid archive")]
    Archive { source: InvalidArchive },
    #[error("the guest did not send all of the content")]
    Incomplete,
    #[error("the checksum of `{path}` differs from that in the guest")]
    Mismatch { path: String },
    #[error("cannot copy `{}`", path.display())]
    Failed { path: PathBuf, source: Cause },
}

impl Explain for HostFileError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound { .. } => Explanation::new("copy.source-not-found", Fault::NotFound),
            Self::Unsupported { .. } => Explanation::new("copy.source-unsupported", Fault::Usage),
            Self::RecursiveRequired { .. } => Explanation::new("copy.recursive-required", Fault::Usage)
                .hint("pass `-r` to copy it with all that is in it"),
            Self::ParentNotFound { .. } => Explanation::new("copy.target-not-found", Fault::NotFound),
            Self::Conflict { .. } => Explanation::new("copy.target-conflict", Fault::State),
            Self::Changed { .. } => Explanation::new("copy.source-conflict", Fault::State),
            Self::Full { .. } => Explanation::new("copy.disk-full", Fault::Host),
            Self::TooLarge { .. } => Explanation::new("copy.content-too-large", Fault::Host),
            Self::Archive { .. } => Explanation::new("copy.archive-invalid", Fault::Failed),
            Self::Incomplete => Explanation::new("copy.transfer-interrupted", Fault::Failed),
            Self::Mismatch { .. } => Explanation::new("copy.content-corrupt", Fault::Failed),
            Self::Failed { .. } => Explanation::new("copy.host-failed", Fault::Failed),
        }
    }
}

/// What is read from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRequest {
    /// The path; a symbolic link is followed.
    pub path: PathBuf,
    /// Whether it may be a directory.
    pub is_recursive: bool,
    /// Whether times and permissions are kept.
    pub keeps: bool,
    /// Whether checksums are compared.
    pub is_verified: bool,
    /// What is left out.
    pub filter: CopyFilter,
}

/// What is written to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRequest {
    /// The path: a directory in which it gets its `name`, or its own new name.
    pub path: PathBuf,
    /// The name of the source; `None` if its content is copied.
    pub name: Option<String>,
    /// What is written.
    pub source: SourceFacts,
    /// Whether times and permissions are those of the source.
    pub keeps: bool,
    /// Whether checksums are compared.
    pub is_verified: bool,
    /// What is left out.
    pub filter: CopyFilter,
}

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct CopySummary {
    /// How many files.
    pub files: u64,
    /// How many directories.
    pub directories: u64,
    /// How many symbolic links.
    pub links: u64,
    /// How many bytes of content.
    pub bytes: u64,
    /// What was not copied, at most a hundred of them.
    pub skipped: Vec<SkippedEntry>,
    /// How many entries were not copied.
    pub skipped_count: u64,
}

/// How many of the skipped entries are named.
const MAX_NAMED_SKIPPED: usize = 100;

/// An entry that was not copied.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SkippedEntry {
    /// Its path in the directory that is copied.
    pub path: String,
    /// Why.
    pub reason: &'static str,
}

impl CopySummary {
    /// Adds an entry that is not copied.
    pub fn skip(&mut self, path: impl Into<String>, reason: &'static str) {
        self.skipped_count += 1;
        if self.skipped.len() < MAX_NAMED_SKIPPED {
            self.skipped.push(SkippedEntry { path: path.into(), reason });
        }
    }
}

/// What is copied, as a stream: the bytes of a file, or an archive of a directory as the guest expects it.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait HostSource: Send + Sync {
    /// Returns what it is.
    fn facts(&self) -> SourceFacts;

    /// Returns the next bytes; none at the end. Cancel safe.
    ///
    /// Errors: `Changed`, `Failed`.
    async fn read(&mut self) -> Result<Vec<u8>, HostFileError>;

    /// Returns what was read, after the end.
    fn summary(&self) -> CopySummary;
}

/// What a copy is written to; it is removed on drop unless it is complete.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait HostTarget: Send + Sync {
    /// Takes the next bytes of what the guest sends: those of a file, or of an archive.
    ///
    /// After an error, the target is of no use.
    ///
    /// Errors: `Archive`, `TooLarge`, `Full`, `Failed`.
    async fn write(&mut self, bytes: Vec<u8>) -> Result<(), HostFileError>;

    /// Gives it its name once its content is on disk.
    ///
    /// Errors: `Incomplete`, `Mismatch`, `Conflict`, `Full`, `Failed`.
    async fn finish(self: Box<Self>) -> Result<CopySummary, HostFileError>;
}

/// Files of the host that are copied into guests and from there.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait HostFiles: Send + Sync {
    /// Opens what is copied.
    ///
    /// Errors: `NotFound`, `Unsupported`, `RecursiveRequired`, `Failed`.
    async fn source(&self, request: &SourceRequest) -> Result<Box<dyn HostSource>, HostFileError>;

    /// Creates what is written, under a temporary name in the directory of the target, and removes what copies to the same
    /// target left that were killed.
    ///
    /// Errors: `ParentNotFound`, `Conflict`, `Full`, `Failed`.
    async fn target(&self, request: &TargetRequest) -> Result<Box<dyn HostTarget>, HostFileError>;
}
