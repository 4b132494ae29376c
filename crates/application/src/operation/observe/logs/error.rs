//! Why there is no log to read.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::vm::{BootNumber, VmName};

/// Why there is no log to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum LogError {
    #[error("VM `{vm}` has no logs: it was never started")]
    RunNotFound { vm: VmName },
    /// `serial` is the redirection in the definition.
    #[error("the serial port of VM `{vm}` has no log: its definition has `{serial}`")]
    Unavailable { vm: VmName, serial: String },
    /// There was no such boot, or its logs are no longer kept.
    #[error("VM `{vm}` has no logs of boot {boot}")]
    BootNotFound { vm: VmName, boot: BootNumber, kept: Vec<BootNumber> },
    #[error("cannot select a boot: the log of operations covers all boots")]
    BootUnsupported,
    #[error("the log of operations on VM `{vm}` is empty")]
    NotFound { vm: String },
}

impl Explain for LogError {
    fn explain(&self) -> Explanation {
        match self {
            Self::RunNotFound { vm } => {
                Explanation::new("log.run-not-found", Fault::State).hint(format!("start it with `maqet start {vm}`"))
            }
            Self::Unavailable { vm, .. } => Explanation::new("log.unavailable", Fault::State).hint(format!(
                "run `maqet apply {vm} --set serial=console`, then restart the VM with `maqet restart {vm}`"
            )),
            Self::BootNotFound { kept, .. } => boot_not_found(kept),
            Self::BootUnsupported => Explanation::new("log.boot-unsupported", Fault::Usage).hint("omit `--boot`"),
            Self::NotFound { .. } => Explanation::new("log.not-found", Fault::NotFound),
        }
    }
}

/// Explains a boot without logs, with the boots that have some.
fn boot_not_found(kept: &[BootNumber]) -> Explanation {
    let explanation = Explanation::new("log.boot-not-found", Fault::NotFound);
    if kept.is_empty() {
        return explanation;
    }
    let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
    explanation.hint(format!("choose a boot with logs: {}", kept.join(", "))).hint("omit `--boot` to read the newest")
}
