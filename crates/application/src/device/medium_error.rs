//! Why a medium was not changed.

use std::time::Duration;

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::vm::VmName;

/// Why the medium of a drive was not changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum MediumError {
    #[error("drive `{drive}` of VM `{vm}` has no tray")]
    EjectUnsupported { vm: VmName, drive: String },
    #[error("timed out after {after:?} waiting for the guest of VM `{vm}` to unlock drive `{drive}`")]
    EjectTimedOut { vm: VmName, drive: String, after: Duration },
}

impl Explain for MediumError {
    fn explain(&self) -> Explanation {
        match self {
            Self::EjectUnsupported { .. } => Explanation::new("medium.eject-unsupported", Fault::Usage),
            Self::EjectTimedOut { .. } => Explanation::new("medium.eject-timed-out", Fault::TimedOut)
                .hint("unmount the medium in the guest")
                .hint("pass `--force` to open the drive anyway"),
        }
    }
}
