//! Why there is no log to read.

use maqet_domain::error::{Explain, Fault};
use maqet_domain::vm::{BootNumber, VmName};

/// Why there is no log to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The VM was never started, so nothing was ever written.
    #[error("the VM `{vm}` was never started, so it has no logs")]
    NeverStarted {
        /// The VM.
        vm: VmName,
    },
    /// The guest's serial port goes elsewhere.
    #[error("the serial port of `{vm}` does not go to a log: its definition says `{elsewhere}`")]
    Elsewhere {
        /// The VM.
        vm: VmName,
        /// What the definition says.
        elsewhere: String,
    },
    /// The logs of this start are not kept, or there was no such start.
    #[error("there are no logs of boot {boot} of `{vm}`; {}", in_words(kept))]
    NoSuchBoot {
        /// The VM.
        vm: VmName,
        /// What was asked for.
        boot: BootNumber,
        /// The starts whose logs are kept.
        kept: Vec<BootNumber>,
    },
    /// maqet's own log is of the VM, and a boot was named.
    #[error("the log of what maqet did is of the VM, and not of one boot")]
    OfNoBoot,
    /// maqet has not done anything to the VM since it keeps a log.
    #[error("maqet has recorded nothing of `{vm}` yet")]
    NothingRecorded {
        /// The VM.
        vm: String,
    },
}

fn in_words(kept: &[BootNumber]) -> String {
    match kept {
        [] => "none are kept".to_owned(),
        [only] => format!("kept are those of boot {only}"),
        [first, .., last] => format!("kept are those of boots {first} to {last}"),
    }
}

impl Explain for LogError {
    fn code(&self) -> &'static str {
        match self {
            Self::NeverStarted { .. } => "log.never-started",
            Self::Elsewhere { .. } => "log.elsewhere",
            Self::NoSuchBoot { .. } => "log.no-such-boot",
            Self::OfNoBoot => "log.of-no-boot",
            Self::NothingRecorded { .. } => "log.nothing-recorded",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::NeverStarted { .. } | Self::Elsewhere { .. } => Fault::State,
            Self::NoSuchBoot { .. } | Self::NothingRecorded { .. } => Fault::NotFound,
            Self::OfNoBoot => Fault::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::NeverStarted { vm } => vec![format!("start it with `maqet start {vm}`")],
            Self::Elsewhere { vm, .. } => {
                vec![format!("say `serial: console` with `maqet apply {vm} --set serial=console`, and start it anew")]
            }
            Self::NoSuchBoot { .. } => vec!["leave `--boot` out for the newest".to_owned()],
            Self::OfNoBoot => vec!["leave `--boot` out".to_owned()],
            Self::NothingRecorded { .. } => Vec::new(),
        }
    }
}
