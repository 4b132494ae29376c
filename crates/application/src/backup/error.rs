//! Why a backup cannot be made, restored or removed.

use std::path::PathBuf;

use maqet_domain::backup::{BackupName, BackupProblem};
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::text::quoted_list;
use maqet_domain::vm::{Status, VmName};

use crate::Error;
use crate::trash::used_files::FileUse;

/// Why a backup cannot be made, restored or removed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
#[non_exhaustive]
pub enum BackupError {
    #[error("VM `{vm}` has no backup `{}` in `{}`", name.escape_debug(), directory.display())]
    NotFound { vm: VmName, name: String, directory: PathBuf, known: Vec<BackupName> },
    #[error("VM `{vm}` has no backups in `{}`", directory.display())]
    None { vm: VmName, directory: PathBuf },
    #[error("cannot remove backup {}: {} build on it", quoted_list(names), quoted_list(dependents))]
    InUse { vm: VmName, names: Vec<BackupName>, dependents: Vec<BackupName> },
    #[error("cannot back up VM `{vm}`: it is {status}")]
    WrongState { vm: VmName, status: Status },
    #[error("VM `{vm}` has no disks to back up")]
    NoDisks { vm: VmName },
    #[error("VM `{vm}` is running without drive `{drive}` of its definition")]
    DriveNotRunning { vm: VmName, drive: String },
    #[error("drive `{drive}` of VM `{vm}` has no image yet: `{}` does not exist", path.display())]
    DiskMissing { vm: VmName, drive: String, path: PathBuf },
    #[error("backup `{backup}` has no drive `{}`", drive.escape_debug())]
    NoSuchDrive { backup: BackupName, drive: String, known: Vec<String> },
    #[error("VM `{vm}` has no drive `{drive}`, which backup `{backup}` has")]
    DriveRemoved { vm: VmName, drive: String, backup: BackupName },
    #[error("cannot replace the disks of VM `{vm}`: {}", uses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    DiskUsed { vm: VmName, uses: Vec<FileUse> },
    #[error("cannot use backup `{backup}`: {problem}")]
    Unusable { backup: BackupName, problem: BackupProblem },
    /// The QEMU without a guest that copies the disks of a VM that is not running.
    #[error("the QEMU that copies the disks of VM `{vm}` has ended")]
    CopierEnded { vm: VmName, source: Box<Error> },
    #[error("{count} of the backups of VM `{vm}` {} damaged", if *count == 1 { "is" } else { "are" })]
    Damaged { vm: VmName, count: usize, problems: Vec<String> },
}

impl Explain for BackupError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound { vm, known, .. } => {
                let explanation = Explanation::new("backup.not-found", Fault::NotFound);
                match known.last() {
                    Some(latest) => explanation
                        .hint(format!("choose one that `maqet backup ls {vm}` shows; the latest is {latest}")),
                    None => explanation.hint(format!("make one with `maqet backup create {vm}`")),
                }
            }
            Self::None { vm, .. } => Explanation::new("backup.not-found", Fault::NotFound)
                .hint(format!("make one with `maqet backup create {vm}`"))
                .hint("pass `--from` with another directory"),
            Self::InUse { .. } => {
                Explanation::new("backup.in-use", Fault::State).hint("pass `--dependents` to remove those, too")
            }
            Self::CopierEnded { .. } => Explanation::new("backup.copy-failed", Fault::Failed)
                .hint("run the command again: what is left of the backup is removed first"),
            Self::WrongState { vm, .. } => Explanation::new("backup.status-conflict", Fault::State)
                .hint(format!("stop it with `maqet stop {vm}`, or try again once it is running")),
            Self::NoDisks { .. } => Explanation::new("backup.drive-required", Fault::State).hint(
                "add a disk under `storage`; CDs, shared directories, read-only disks, disks with `snapshot: true` \
                       and the state of a TPM are not backed up",
            ),
            Self::DriveNotRunning { vm, .. } => Explanation::new("backup.drive-conflict", Fault::State)
                .hint(format!("restart the VM with `maqet restart {vm}`, or stop it for the backup")),
            Self::DiskMissing { vm, .. } => Explanation::new("backup.disk-not-found", Fault::NotFound)
                .hint(format!("start the VM with `maqet start {vm}`, which creates it")),
            Self::NoSuchDrive { known, .. } => Explanation::new("backup.drive-not-found", Fault::NotFound)
                .hint(format!("choose one of its drives: {}", known.join(", "))),
            Self::DriveRemoved { .. } => Explanation::new("backup.drive-conflict", Fault::State)
                .hint("pass `--output` with a directory to restore the images there")
                .hint("add the drive to the definition"),
            Self::DiskUsed { .. } => Explanation::new("backup.disk-in-use", Fault::State)
                .hint("pass `--output` with a directory to restore the images there")
                .hint("remove what uses the disk, which would be damaged"),
            Self::Unusable { .. } => Explanation::new("backup.corrupt", Fault::Failed)
                .hint("restore an older backup, or one that does not build on the same file"),
            Self::Damaged { problems, .. } => {
                let explanation = Explanation::new("backup.corrupt", Fault::Failed);
                let explanation = problems
                    .iter()
                    .fold(explanation, |explanation, problem| explanation.hint(format!("see {problem}")));
                explanation.hint("make a new one with `maqet backup create --full`")
            }
        }
    }
}
