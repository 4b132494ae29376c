//! What a build of QEMU says about itself, without asking a QEMU that runs a VM.

use async_trait::async_trait;
use serde_json::Value;

use crate::qmp::TypeQuery;
use crate::vm::ProcessIdentity;

/// Builds of QEMU, asked in fresh processes of their binaries.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Builds: Send + Sync {
    /// Returns the reply of the build that `process` runs; `None` if it refuses the query.
    ///
    /// The replies of a build are cached. `process` itself is never asked.
    async fn ask(&self, process: &ProcessIdentity, query: &TypeQuery) -> Result<Option<Value>, BuildUnavailable>;
}

/// The build that a process runs cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum BuildUnavailable {
    #[error("QEMU's binary `{binary}` was removed or replaced since it was started")]
    Replaced { binary: String },
    #[error("QEMU's binary `{binary}` did not list its devices: {reason}")]
    Failed { binary: String, reason: String },
    #[error("the QEMU process is not visible")]
    Hidden,
}
