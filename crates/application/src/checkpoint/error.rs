//! Why a checkpoint is not taken, found or removed.

use std::path::PathBuf;

use maqet_domain::checkpoint::ladder::PauseTooLong;
use maqet_domain::checkpoint::{CheckpointName, InvalidCheckpointName};
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::port::CheckpointFileError;
use maqet_domain::size::ByteSize;
use maqet_domain::text::{quote, quoted_list};
use maqet_domain::vm::{Status, VmName};

use super::resume::Purpose;
use crate::Error;
use crate::snapshot::live::check::SaveObstacle;
use crate::trash::error::describe;
use crate::trash::used_files::FileUse;

/// Why a checkpoint is not taken, found or removed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
#[non_exhaustive]
pub enum CheckpointError {
    #[error(transparent)]
    Name(#[from] InvalidCheckpointName),
    #[error(transparent)]
    File(#[from] CheckpointFileError),
    #[error(transparent)]
    PauseTooLong(#[from] PauseTooLong),
    #[error("VM `{vm}` has no checkpoint `{}`", name.escape_debug())]
    NotFound { vm: VmName, name: String, known: Vec<CheckpointName> },
    #[error("VM `{vm}` has a checkpoint `{name}`")]
    Exists { vm: VmName, name: CheckpointName },
    #[error("cannot take a checkpoint of VM `{vm}`: it is {status}")]
    WrongState { vm: VmName, status: Status },
    #[error("cannot take a checkpoint of VM `{vm}`: {}", listed(obstacles))]
    Obstacles { vm: VmName, obstacles: Vec<SaveObstacle> },
    #[error("cannot save VM `{vm}`: {reason}")]
    SaveFailed { vm: VmName, reason: String },
    /// QEMU 7.2 never lets a guest go on whose background snapshot failed.
    #[error("cannot save VM `{vm}`: {reason}; its guest hangs, and QEMU has to be ended")]
    GuestHangs { vm: VmName, reason: String },
    #[error("checkpoint `{name}` of VM `{vm}` was canceled")]
    Canceled { vm: VmName, name: CheckpointName },
    #[error("no checkpoint of VM `{vm}` is being taken")]
    NothingToCancel { vm: VmName },
    /// Something was to be done to its image.
    #[error("drive `{drive}` of VM `{vm}` is part of {}", named(checkpoints))]
    DriveLayered { vm: VmName, drive: String, checkpoints: Vec<CheckpointName> },
    #[error("VM `{vm}` has {}", named(checkpoints))]
    VmHasCheckpoints { vm: VmName, checkpoints: Vec<CheckpointName> },
    #[error("checkpoint `{name}` of VM `{vm}` is in use: {}", describe(uses))]
    InUse { vm: VmName, name: CheckpointName, uses: Vec<FileUse> },
    #[error("layer `{}` of drive `{drive}` has snapshots, which would be lost: {}", path.display(), names.join(", "))]
    LayerHasSnapshots { vm: VmName, drive: String, path: PathBuf, names: Vec<String> },
    #[error("merging the layers of drive `{drive}` takes up to {needed}, and {free} are free for `{}`", path.display())]
    MergeSpace { drive: String, path: PathBuf, needed: ByteSize, free: ByteSize },
    /// QEMU gave its images away when it saved the guest, which was paused and has not run since.
    #[error("cannot merge the layers of VM `{vm}`: its guest was saved while it was paused, and has not run since")]
    SavedWhilePaused { vm: VmName },
    #[error("checkpoint `{name}` of VM `{vm}` cannot be {purpose}: {}", reasons.join("; "))]
    Refused { purpose: Purpose, vm: VmName, name: CheckpointName, reasons: Vec<String> },
    #[error("fork `{fork}` would have the images that are in `{}` already", path.display())]
    ForkStorageExists { fork: VmName, path: PathBuf },
    #[error("QEMU cannot go on from checkpoint `{name}`: {reason}")]
    LoadFailed { name: CheckpointName, reason: String },
    #[error(
        "cannot save the present state of VM `{vm}`, as it is {status}: what its disks have since their last checkpoint would be lost"
    )]
    PresentNotSaved { vm: VmName, status: Status },
    /// The QEMU of before was ended.
    #[error("VM `{vm}` is stopped: it could not go on from checkpoint `{name}`")]
    RestoreFailed { vm: VmName, name: CheckpointName, saved_as: Option<CheckpointName>, source: Box<Error> },
    #[error("the running VM `{vm}` does not have layer `{}` at drive `{drive}`", path.display())]
    LayerNotAttached { vm: VmName, drive: String, path: PathBuf },
}

impl From<CheckpointFileError> for Error {
    fn from(error: CheckpointFileError) -> Self {
        CheckpointError::from(error).into()
    }
}

fn listed(obstacles: &[SaveObstacle]) -> String {
    obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn named(checkpoints: &[CheckpointName]) -> String {
    match checkpoints {
        [] => "layers of removed checkpoints".to_owned(),
        [one] => format!("checkpoint `{one}`"),
        several => format!("checkpoints {}", quoted_list(several)),
    }
}

/// Returns the command that removes all checkpoints.
fn remove_all(vm: &VmName) -> String {
    format!("remove them first with `maqet checkpoint rm {} --all`", quote(vm.as_str()))
}

impl Explain for CheckpointError {
    fn explain(&self) -> Explanation {
        let explain = Explanation::new;
        match self {
            Self::Name(_) => explain("checkpoint.name-invalid", Fault::Usage),
            Self::File(inner) => inner.explain(),
            Self::PauseTooLong(inner) => inner.explain(),
            Self::NotFound { vm, name, known } => {
                let near = maqet_domain::text::similar(name, known.iter().map(CheckpointName::as_str));
                explain("checkpoint.not-found", Fault::NotFound)
                    .did_you_mean(&near)
                    .or_hint(format!("list them with `maqet checkpoint ls {vm}`"))
            }
            Self::Exists { vm, name } => explain("checkpoint.exists", Fault::State)
                .hint("choose another name")
                .hint(format!("remove it with `maqet checkpoint rm {vm} {name}`")),
            Self::WrongState { vm, status } => {
                let explanation = explain("checkpoint.status-conflict", Fault::State);
                match status {
                    Status::Defined | Status::Stopped(_) => {
                        explanation.hint(format!("start it with `maqet start {vm}`, or use `maqet snapshot create`"))
                    }
                    _ => explanation.hint(format!("see why with `maqet status {vm}`")),
                }
            }
            Self::Obstacles { obstacles, .. } => obstacles
                .iter()
                .fold(explain("checkpoint.unsupported", Fault::State), |all, obstacle| all.hint(obstacle.hint.clone())),
            Self::SaveFailed { .. } => {
                explain("checkpoint.save-failed", Fault::Failed).hint("try again; the guest runs on")
            }
            Self::GuestHangs { vm, .. } => explain("checkpoint.guest-unresponsive", Fault::Failed)
                .hint(format!("end it with `maqet stop {vm} --force`; QEMU 10.0 and later do not hang")),
            Self::Canceled { .. } => explain("operation.interrupted", Fault::Failed),
            Self::NothingToCancel { .. } => explain("checkpoint.cancel-conflict", Fault::State),
            Self::DriveLayered { vm, .. } => explain("checkpoint.drive-in-use", Fault::State).hint(remove_all(vm)),
            Self::VmHasCheckpoints { vm, .. } => explain("checkpoint.vm-in-use", Fault::State).hint(remove_all(vm)),
            Self::InUse { .. } => explain("checkpoint.in-use", Fault::State).hint("remove what uses it first"),
            Self::LayerHasSnapshots { vm, drive, .. } => explain("checkpoint.snapshots-conflict", Fault::State)
                .hint(format!("remove them with `maqet snapshot rm {vm} {} NAME`", quote(drive))),
            Self::MergeSpace { .. } => explain("checkpoint.disk-full", Fault::Host).hint("free some space"),
            Self::SavedWhilePaused { vm } => explain("checkpoint.layer-conflict", Fault::State)
                .hint(format!("resume it first with `maqet resume {vm}`")),
            Self::Refused { purpose, .. } => {
                let code = match purpose {
                    Purpose::Fork => "checkpoint.fork-refused",
                    Purpose::Restore => "checkpoint.restore-refused",
                };
                explain(code, Fault::State).hint("take another checkpoint with the VM as it is now")
            }
            Self::ForkStorageExists { .. } => explain("checkpoint.storage-exists", Fault::State)
                .hint("choose another name")
                .hint("move the directory away, if it is not needed"),
            Self::LoadFailed { .. } => {
                explain("checkpoint.load-failed", Fault::Failed).hint("take another checkpoint of the VM")
            }
            Self::PresentNotSaved { vm, .. } => explain("checkpoint.present-conflict", Fault::State)
                .hint("pass `--discard-current` to discard it")
                .hint(format!("start it with `maqet start {vm}`, so that it can be saved")),
            Self::RestoreFailed { vm, saved_as, source, .. } => {
                let explanation = Explanation { code: "checkpoint.restore-failed", ..source.explain() };
                match saved_as {
                    Some(name) => explanation.hint(format!(
                        "have it go on as before with `maqet checkpoint restore {vm} {name} --discard-current`"
                    )),
                    None => explanation.hint(format!("its disks are as they were: start it with `maqet start {vm}`")),
                }
            }
            Self::LayerNotAttached { vm, .. } => {
                explain("checkpoint.layer-conflict", Fault::State).hint(format!("stop it first with `maqet stop {vm}`"))
            }
        }
    }
}
