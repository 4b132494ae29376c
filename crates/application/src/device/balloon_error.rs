//! Why the memory of a guest was not changed.

use std::time::Duration;

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::size::ByteSize;
use maqet_domain::vm::VmName;

/// Why the memory of a guest was not shown or changed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum BalloonError {
    #[error("VM `{vm}` has no balloon device")]
    Unavailable { vm: VmName },
    #[error("invalid memory size `{}`: {reason}", size.escape_debug())]
    InvalidSize { size: String, reason: String },
    #[error("{size} exceeds the memory of the VM ({memory})")]
    TooLarge { size: ByteSize, memory: ByteSize },
    #[error("timed out after {after:?} waiting for the guest of VM `{vm}` to use {wanted}: it uses {actual}")]
    TimedOut { vm: VmName, wanted: ByteSize, actual: ByteSize, after: Duration },
}

impl Explain for BalloonError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Unavailable { vm } => Explanation::new("balloon.unavailable", Fault::State)
                .hint(format!("add one with `maqet qmp device-add {vm} virtio-balloon-pci`"))
                .hint("set `balloon: true` for the next start"),
            Self::InvalidSize { .. } => Explanation::new("balloon.size-invalid", Fault::Usage),
            Self::TooLarge { .. } => Explanation::new("balloon.size-too-large", Fault::Usage),
            Self::TimedOut { .. } => Explanation::new("balloon.timed-out", Fault::TimedOut)
                .hint("check that the guest has a balloon driver; it may still reach the size"),
        }
    }
}
