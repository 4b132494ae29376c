//! Why a snapshot of a running VM cannot be created or loaded.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::snapshot::FingerprintDifference;
use maqet_domain::text::{quote, quoted_list};
use maqet_domain::vm::{Status, VmName};

use super::check::SaveObstacle;
use crate::Error;

/// Why a snapshot of a running VM cannot be created, loaded or removed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
#[non_exhaustive]
pub enum LiveSnapshotError {
    #[error("cannot use `--live`: VM `{vm}` is not running")]
    NotRunning { vm: VmName, operation: &'static str },
    #[error("VM `{vm}` is {status}")]
    Running { vm: VmName, status: Status, operation: &'static str },
    #[error("cannot use `--start`: VM `{vm}` is running already")]
    AlreadyRunning { vm: VmName },
    #[error("cannot use snapshots of VM `{vm}` while it is {status}")]
    WrongState { vm: VmName, status: Status },
    #[error("VM `{vm}` cannot be saved with its memory: {}", listed(obstacles))]
    Obstacles { vm: VmName, obstacles: Vec<SaveObstacle> },
    /// A load of any snapshot would fail or end QEMU.
    #[error("cannot load snapshot `{name}` into VM `{vm}`: {}", listed(obstacles))]
    LoadObstacles { vm: VmName, name: String, obstacles: Vec<SaveObstacle> },
    #[error("snapshot `{name}` of VM `{vm}` has no memory")]
    DiskOnly { vm: VmName, name: String },
    #[error("one drive of VM `{vm}` cannot be reverted while it is running")]
    OneDrive { vm: VmName, name: String },
    #[error("drives of VM `{vm}` have no snapshot `{}`: {}", name.escape_debug(), quoted_list(missing))]
    Incomplete { vm: VmName, name: String, missing: Vec<String> },
    #[error("VM `{vm}` differs from the one that snapshot `{name}` was created of: {}", listed(differences))]
    Mismatch { vm: VmName, name: String, differences: Vec<FingerprintDifference> },
    #[error("drive `{drive}` is not attached to the running VM `{vm}`, or is read-only")]
    NotAttached { vm: VmName, drive: String },
    /// Their snapshots of this name were not created as one.
    #[error("snapshot `{name}` of VM `{vm}` is of another time for drives {}", quoted_list(others))]
    NotOneSet { vm: VmName, name: String, others: Vec<String> },
    #[error("drive `{drive}` of VM `{vm}` has both tags of the snapshot `{name}`: `{name}` and `{name}~2`")]
    NoFreeTag { vm: VmName, drive: String, name: String },
    /// In some it has one tag, in others the other one.
    #[error("drives of VM `{vm}` have snapshots `{name}` of different times, which cannot be replaced as one")]
    NoCommonTag { vm: VmName, name: String },
    /// What was recorded cannot be compared with the VM.
    #[error("snapshot `{name}` of VM `{vm}` was recorded by another version of maqet, and cannot be checked")]
    Unreadable { vm: VmName, name: String, source: serde_json::Error },
    /// The guest goes on.
    #[error("cannot load snapshot `{name}` of VM `{vm}`; nothing was changed")]
    NotLoaded { vm: VmName, name: String, source: Box<Error> },
    /// QEMU was ended.
    #[error("cannot load snapshot `{name}` of VM `{vm}`; it was stopped, and its disks are as they were before")]
    LoadFailed { vm: VmName, name: String, source: Box<Error> },
}

fn listed(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Returns the last part of the name of an operation.
fn verb(operation: &str) -> &str {
    operation.rsplit('.').next().unwrap_or_default()
}

impl Explain for LiveSnapshotError {
    fn explain(&self) -> Explanation {
        let state = |code| Explanation::new(code, Fault::State);
        match self {
            Self::NotRunning { vm, operation } => {
                let explanation = state("snapshot.live-conflict").hint("run the command without `--live`");
                match verb(operation) {
                    "load" => explanation.hint("pass `--start` to start the VM from a snapshot with memory"),
                    _ => explanation.hint(format!("start it with `maqet start {vm}`")),
                }
            }
            Self::Running { vm, operation, .. } => {
                let what = match verb(operation) {
                    "create" => "pass `--live` to create a snapshot of the running VM",
                    "load" => "pass `--live` to load a snapshot with memory into the running VM",
                    _ => "pass `--live` to remove a snapshot of the running VM",
                };
                state("snapshot.live-required").hint(what).hint(format!("stop it with `maqet stop {vm}`"))
            }
            Self::AlreadyRunning { .. } => {
                state("snapshot.live-conflict").hint("pass `--live` to load the snapshot into the running VM")
            }
            Self::WrongState { vm, .. } => state("vm.status-conflict")
                .hint(format!("resume it with `maqet resume {vm}`, or stop it with `maqet stop {vm}`")),
            Self::Obstacles { vm, obstacles, .. } => obstacles
                .iter()
                .fold(state("snapshot.refused"), |explanation, obstacle| explanation.hint(obstacle.hint.clone()))
                .hint(format!("stop it with `maqet stop {vm}` to create a snapshot of its disks alone")),
            Self::LoadObstacles { vm, name, obstacles } => obstacles
                .iter()
                .fold(state("snapshot.refused"), |explanation, obstacle| explanation.hint(obstacle.hint.clone()))
                .hint(format!(
                    "stop it, and revert its disks without its memory with `maqet snapshot load {vm} all {}`",
                    quote(name)
                )),
            Self::DiskOnly { vm, name } => state("snapshot.unsupported").hint(format!(
                "stop it with `maqet stop {vm}`, then revert its disks with `maqet snapshot load {vm} all {}`",
                quote(name)
            )),
            Self::OneDrive { vm, name } => state("snapshot.unsupported")
                .hint(format!(
                    "load all drives with their memory: `maqet snapshot load {vm} all {} --live`",
                    quote(name)
                ))
                .hint(format!("stop it with `maqet stop {vm}` to revert one drive")),
            Self::Incomplete { vm, .. } => Explanation::new("snapshot.not-found", Fault::NotFound)
                .hint(format!("list the snapshots with `maqet snapshot ls {vm}`")),
            Self::NotAttached { vm, .. } => state("drive.conflict")
                .hint(format!("restart the VM with its current definition: `maqet restart {vm}`")),
            Self::NotOneSet { vm, name, .. } | Self::Unreadable { vm, name, .. } => {
                state("snapshot.conflict").hint(format!(
                    "stop it, and revert its disks without its memory with `maqet snapshot load {vm} all {}`",
                    quote(name)
                ))
            }
            Self::NoFreeTag { vm, drive, name } => {
                let (drive, tag) = (quote(drive), format!("{name}~2"));
                state("snapshot.exists")
                    .hint(format!("remove one with `maqet snapshot rm {vm} {drive} {} --live`", quote(&tag)))
            }
            Self::NoCommonTag { vm, name } => state("snapshot.exists")
                .hint(format!("remove them with `maqet snapshot rm {vm} all {} --live`", quote(name))),
            Self::Mismatch { vm, name, differences } => {
                let settings = differences.iter().filter_map(FingerprintDifference::default_device);
                let hint = |setting| format!("set `{setting}`: the snapshot was created without this device");
                settings
                    .map(hint)
                    .fold(state("snapshot.conflict"), Explanation::hint)
                    .hint(format!("undo the differences, and restart the VM with `maqet restart {vm}`"))
                    .hint(format!(
                        "stop it, and revert its disks without its memory with `maqet snapshot load {vm} all {}`",
                        quote(name)
                    ))
            }
            Self::NotLoaded { vm, .. } => Explanation::new("snapshot.load-failed", Fault::Failed)
                .hint(format!("list the snapshots with `maqet snapshot ls {vm}`"))
                .hint(format!("check the messages of QEMU with `maqet logs {vm} --qemu`")),
            Self::LoadFailed { vm, .. } => Explanation::new("snapshot.load-failed", Fault::Failed)
                .hint(format!("start it with `maqet start {vm}`"))
                .hint(format!("check the messages of QEMU with `maqet logs {vm} --qemu`")),
        }
    }
}
