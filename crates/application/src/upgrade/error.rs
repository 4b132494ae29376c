//! Why a guest is not put into another QEMU.

use std::path::PathBuf;

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::text::quote;
use maqet_domain::upgrade::UpgradePauseTooLong;
use maqet_domain::vm::{Status, VmName};

use crate::snapshot::live::check::SaveObstacle;

/// Why a guest is not put into another QEMU.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
#[non_exhaustive]
pub enum UpgradeError {
    #[error("cannot put the guest of VM `{vm}` into another QEMU: the VM is {status}")]
    WrongState { vm: VmName, status: Status },
    #[error("cannot put the guest of VM `{vm}` into another QEMU: {}", listed(obstacles))]
    Obstacles { vm: VmName, obstacles: Vec<SaveObstacle> },
    #[error(transparent)]
    PauseTooLong(#[from] UpgradePauseTooLong),
    /// The guest has not noticed anything.
    #[error("`{}` would give the guest of VM `{vm}` another machine: {}", binary.display(), reasons.join("; "))]
    OtherMachine { vm: VmName, binary: PathBuf, reasons: Vec<String> },
    #[error("cannot put the guest of VM `{vm}` into `{}`: {reason}; it goes on where it was", binary.display())]
    HandoverFailed { vm: VmName, binary: PathBuf, reason: String, log: PathBuf },
}

fn listed(obstacles: &[SaveObstacle]) -> String {
    obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Explain for UpgradeError {
    fn explain(&self) -> Explanation {
        let explain = Explanation::new;
        match self {
            Self::WrongState { vm, status } => {
                let explanation = explain("upgrade.status-conflict", Fault::State);
                match status {
                    Status::Defined | Status::Stopped(_) => explanation
                        .hint(format!("start it with `maqet start {vm}`: it gets the QEMU that is installed")),
                    _ => explanation.hint(format!("see why with `maqet status {vm}`")),
                }
            }
            Self::Obstacles { obstacles, .. } => obstacles
                .iter()
                .fold(explain("upgrade.unsupported", Fault::State), |all, obstacle| all.hint(obstacle.hint.clone())),
            Self::PauseTooLong(inner) => inner.explain(),
            Self::OtherMachine { vm, .. } => explain("upgrade.machine-conflict", Fault::State)
                .hint(format!("restart the VM with `maqet restart {vm}`: it boots in the QEMU of its definition")),
            Self::HandoverFailed { log, .. } => explain("upgrade.handover-failed", Fault::Failed)
                .hint(format!("see what it complained about: `cat {}`", quote(&log.to_string_lossy())))
                .hint("try again, or restart the VM: it boots in the QEMU of its definition"),
        }
    }
}
