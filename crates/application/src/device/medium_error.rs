//! Why a medium was not changed.

use std::time::Duration;

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::text::quoted_list;
use maqet_domain::vm::VmName;

/// Why the medium of a drive was not changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum MediumError {
    /// Its medium cannot be changed; `removable` are the drives whose medium can.
    #[error("the medium of drive `{drive}` of VM `{vm}` cannot be changed")]
    EjectUnsupported { vm: VmName, drive: String, removable: Vec<String> },
    #[error("timed out after {after:?} waiting for the guest of VM `{vm}` to unlock drive `{drive}`")]
    EjectTimedOut { vm: VmName, drive: String, after: Duration },
}

impl Explain for MediumError {
    fn explain(&self) -> Explanation {
        match self {
            Self::EjectUnsupported { removable, .. } => {
                let explanation = Explanation::new("medium.eject-unsupported", Fault::Usage);
                if removable.is_empty() {
                    return explanation;
                }
                explanation.hint(format!("use one of the removable drives: {}", quoted_list(removable)))
            }
            Self::EjectTimedOut { .. } => Explanation::new("medium.eject-timed-out", Fault::TimedOut)
                .hint("unmount the medium in the guest")
                .hint("pass `--force` to open the drive anyway"),
        }
    }
}
