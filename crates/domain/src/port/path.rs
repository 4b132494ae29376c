//! What lies where on the host.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathKind {
    /// Nothing, or nothing that may be seen.
    Missing,
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A device, a socket, a FIFO.
    Other,
}

/// Looks at paths of the host.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Paths: Send + Sync {
    /// Returns what lies at `path`; links are followed.
    async fn kind(&self, path: &Path) -> PathKind;

    /// Returns where `path` really leads: every link and `..` followed as far as the path exists, and what does not
    /// exist yet appended as written.
    async fn resolve(&self, path: &Path) -> PathBuf;
}
