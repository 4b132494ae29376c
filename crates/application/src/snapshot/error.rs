//! Why a snapshot cannot be created, loaded or removed.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::machine::Machine;
use maqet_domain::storage::StorageSpec;
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
    NoDrives { vm: VmName, lossy: Vec<String> },
    #[error("`qemu-img` created no snapshot `{name}` of drive `{drive}` of VM `{vm}`")]
    Lost { vm: VmName, drive: String, name: String },
    #[error("drive `{drive}` of VM `{vm}` has type `{kind}`, which does not support snapshots")]
    Unsupported { vm: VmName, drive: String, kind: String },
    /// What a run writes to it is lost, and several VMs may use the image.
    #[error("drive `{drive}` of VM `{vm}` has `snapshot: true`: its image stays as it is")]
    Lossy { vm: VmName, drive: String },
    #[error("drive `{drive}` of VM `{vm}` is read-only: its image stays as it is")]
    ReadOnly { vm: VmName, drive: String },
}

impl SnapshotError {
    /// Makes the error of a VM of which no drive can have snapshots.
    pub(crate) fn no_drives(vm: &VmName, machine: &Machine) -> Self {
        let is_lossy = |drive: &&StorageSpec| drive.snapshot && drive.driver.features().internal_snapshots;
        let lossy = machine.storage.iter().filter(is_lossy).map(|drive| drive.name.to_string());
        Self::NoDrives { vm: vm.clone(), lossy: lossy.collect() }
    }

    /// Refuses to change the image of a drive that a run leaves as it is.
    pub(crate) fn require_written(vm: &VmName, spec: &StorageSpec) -> Result<(), Self> {
        let (vm, drive) = (vm.clone(), spec.name.to_string());
        match spec.keeps_image() {
            false => Ok(()),
            true if spec.snapshot => Err(Self::Lossy { vm, drive }),
            true => Err(Self::ReadOnly { vm, drive }),
        }
    }
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
            Self::Lossy { vm, drive } => Explanation::new("snapshot.refused", Fault::State).hint(format!(
                "set `snapshot: false` for drive `{drive}` with {}, which takes effect at the next start",
                set(vm, drive, "snapshot=false")
            )),
            Self::ReadOnly { vm, drive } => Explanation::new("snapshot.refused", Fault::State).hint(format!(
                "let the guest write to drive `{drive}` with {}, which takes effect at the next start",
                set(vm, drive, "readonly=false")
            )),
            Self::NoDrives { lossy, .. } if !lossy.is_empty() => Explanation::new("snapshot.unsupported", Fault::State)
                .hint(format!("set `snapshot: false` for a drive that needs snapshots: {}", lossy.join(", "))),
            Self::Unsupported { .. } | Self::NoDrives { .. } => Explanation::new("snapshot.unsupported", Fault::State)
                .hint("set `type: qcow2` for drives that need snapshots"),
        }
    }
}

/// Returns the command that changes an option of a drive.
fn set(vm: &VmName, drive: &str, option: &str) -> String {
    format!("`maqet apply {vm} --set {}`", quote(&format!("storage.{drive}.{option}")))
}
