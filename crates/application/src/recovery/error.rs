//! Why work that was interrupted could not be recovered.

use jiff::Timestamp;
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::vm::VmName;

use crate::Error;

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
