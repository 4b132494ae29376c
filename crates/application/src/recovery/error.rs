//! Why work that was interrupted could not be recovered.

use jiff::Timestamp;
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::vm::VmName;

use crate::Error;
use crate::guest::error::ExecError;
use crate::guest::quiesce::QuiesceError;

/// Why work that was interrupted could not be recovered; it is still pending.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
#[non_exhaustive]
pub enum RecoveryError {
    #[error("cannot recover VM `{vm}` from `{operation}`, which was interrupted (begun at {since:.0})")]
    Failed { vm: VmName, operation: String, since: Timestamp, source: Box<Error> },
    #[error("VM `{vm}` has unfinished work of a newer maqet: `{operation}`, begun at {since:.0}")]
    Unknown { vm: VmName, operation: String, since: Timestamp },
}

impl Explain for RecoveryError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Failed { source, .. } => Explanation { code: "vm.recovery-failed", ..source.explain() },
            Self::Unknown { .. } => {
                Explanation::new("vm.recovery-unsupported", Fault::Host).hint("update maqet on this host")
            }
        }
    }
}

impl Error {
    /// Returns whether a guest could not be thawed, or work could not be recovered because of that.
    pub(crate) fn is_not_thawed(&self) -> bool {
        match self {
            Self::Exec(ExecError::Quiesce(QuiesceError::NotThawed { .. })) => true,
            Self::Recovery(RecoveryError::Failed { source, .. }) => source.is_not_thawed(),
            _ => false,
        }
    }
}
