//! Why a snapshot cannot be created, loaded or removed.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::text::quote;
use maqet_domain::vm::VmName;

/// Why a snapshot cannot be created, loaded or removed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
#[non_exhaustive]
pub enum SnapshotError {
    #[error("drive `{drive}` of VM `{vm}` has no snapshot `{}`", name.escape_debug())]
    NotFound { vm: VmName, drive: String, name: String, known: Vec<String> },
    #[error("drive `{drive}` of VM `{vm}` already has a snapshot `{name}`")]
    Exists { vm: VmName, drive: String, name: String },
    #[error("drive `{drive}` of VM `{vm}` has type `{kind}`, which does not support snapshots")]
    Unsupported { vm: VmName, drive: String, kind: String },
}

impl Explain for SnapshotError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound { vm, drive, name, known } => {
                let explanation = Explanation::new("snapshot.not-found", Fault::NotFound);
                if known.is_empty() {
                    let create = format!("`maqet snapshot create {vm} {} {}`", quote(drive), quote(name));
                    explanation
                        .hint(format!("create one of the current state with {create}: the drive has no snapshots"))
                } else {
                    explanation.hint(format!("choose one of its snapshots: {}", known.join(", ")))
                }
            }
            Self::Exists { vm, drive, name } => Explanation::new("snapshot.exists", Fault::State).hint(format!(
                "choose another name, or remove it with `maqet snapshot rm {vm} {} {}`",
                quote(drive),
                quote(name)
            )),
            Self::Unsupported { .. } => Explanation::new("snapshot.unsupported", Fault::State)
                .hint("set `type: qcow2` for drives that need snapshots"),
        }
    }
}
