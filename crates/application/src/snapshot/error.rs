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
    NotFound { vm: VmName, drive: String, name: String, known: Vec<String>, others: Vec<String> },
    #[error("drive `{drive}` of VM `{vm}` already has a snapshot `{name}`")]
    Exists { vm: VmName, drive: String, name: String, requested: String },
    #[error("VM `{vm}` has no drive that supports snapshots")]
    NoDrives { vm: VmName },
    #[error("`qemu-img` created no snapshot `{name}` of drive `{drive}` of VM `{vm}`")]
    Lost { vm: VmName, drive: String, name: String },
    #[error("drive `{drive}` of VM `{vm}` has type `{kind}`, which does not support snapshots")]
    Unsupported { vm: VmName, drive: String, kind: String },
}

impl Explain for SnapshotError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound { vm, drive, name, known, others } => {
                let mut explanation = Explanation::new("snapshot.not-found", Fault::NotFound);
                if !others.is_empty() {
                    explanation = explanation.hint(format!("name a drive that has it: {}", others.join(", ")));
                }
                if known.is_empty() {
                    let create = format!("`maqet snapshot create {vm} {} {}`", quote(drive), quote(name));
                    explanation
                        .hint(format!("create one of the current state with {create}: the drive has no snapshots"))
                } else {
                    explanation.hint(format!("choose one of its snapshots: {}", known.join(", ")))
                }
            }
            Self::Exists { vm, name, requested, .. } => {
                let (drive, name) = (quote(requested), quote(name));
                let explanation = Explanation::new("snapshot.exists", Fault::State)
                    .hint(format!("choose another name, or remove it with `maqet snapshot rm {vm} {drive} {name}`"));
                if name.ends_with("~2") {
                    return explanation;
                }
                explanation.hint(format!("replace it with `maqet snapshot create {vm} {drive} {name} --overwrite`"))
            }
            Self::Lost { .. } => Explanation::new("snapshot.create-failed", Fault::Failed)
                .hint("check that `qemu-img --version` is that of an unmodified QEMU"),
            Self::Unsupported { .. } | Self::NoDrives { .. } => Explanation::new("snapshot.unsupported", Fault::State)
                .hint("set `type: qcow2` for drives that need snapshots"),
        }
    }
}
