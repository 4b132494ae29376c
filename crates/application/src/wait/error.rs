//! Why waiting was in vain.

use std::fmt;

use maqet_domain::error::{Explain, Fault};
use maqet_domain::vm::{Status, VmName};

use crate::HumanDuration;
use crate::vm::unresponsive::VmUnresponsive;

/// Why waiting was in vain.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// What was waited for did not come true in time.
    #[error("`{vm}` was waited for in vain: {} did not come true within {after}{}", listed(unmet), because(deaf.as_deref()))]
    TimedOut {
        /// The VM.
        vm: VmName,
        /// The conditions that did not come true.
        unmet: Vec<String>,
        /// How long was waited.
        after: HumanDuration,
        /// What kept its QEMU from answering, if anything did.
        deaf: Option<Box<VmUnresponsive>>,
        /// What the guest said last.
        source: LastLines,
    },
    /// What was waited for cannot come true any more.
    #[error("the VM `{vm}` is {}, so `{condition}` cannot come true", status_in_words(*status))]
    Ended {
        /// The VM.
        vm: VmName,
        /// Its state.
        status: Status,
        /// What was waited for.
        condition: String,
        /// What the guest said last.
        source: LastLines,
    },
    /// Nothing was said that could be waited for.
    #[error("there is nothing to wait for")]
    Nothing,
    /// No port of the host leads to this one of the guest.
    #[error("nothing leads to port {port} of the VM `{vm}`")]
    NoForward {
        /// The VM.
        vm: VmName,
        /// What was given.
        port: u16,
        /// What is forwarded.
        known: Vec<String>,
    },
}

impl Explain for WaitError {
    fn code(&self) -> &'static str {
        match self {
            Self::TimedOut { .. } => "wait.timed-out",
            Self::Ended { .. } => "wait.ended",
            Self::Nothing => "wait.nothing",
            Self::NoForward { .. } => "wait.no-forward",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::TimedOut { .. } => Fault::TimedOut,
            Self::Ended { .. } => Fault::State,
            Self::Nothing | Self::NoForward { .. } => Fault::Usage,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::TimedOut { deaf: Some(deaf), .. } => deaf.hints(),
            Self::TimedOut { vm, .. } => vec![
                "give it more time with `--timeout`".to_owned(),
                format!("look at its console with `maqet logs {vm} --follow`"),
            ],
            Self::Ended { vm, status, .. } => match status {
                Status::Defined => vec![format!("start it with `maqet start {vm}`")],
                _ => vec![
                    format!("see what happened with `maqet events {vm}`"),
                    format!("start it with `maqet start {vm}`"),
                ],
            },
            Self::Nothing => vec!["say what with `--for`".to_owned()],
            Self::NoForward { known, .. } if known.is_empty() => {
                vec!["give the VM a forwarded port under `network`, such as `forward: [\"0:22\"]`".to_owned()]
            }
            Self::NoForward { known, .. } => vec![format!("its forwarded ports are {}", known.join(", "))],
        }
    }
}

/// The last lines of a guest's serial console.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LastLines(Vec<String>);

impl LastLines {
    /// Returns at most `most` of the last lines of `text` in which something stands.
    pub fn of(text: &str, most: usize) -> Self {
        let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        Self(lines[lines.len().saturating_sub(most)..].iter().map(|line| (*line).to_owned()).collect())
    }
}

impl fmt::Display for LastLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("the guest wrote nothing to its serial console"),
            lines => write!(f, "the last lines of its serial console are:\n{}", lines.join("\n")),
        }
    }
}

impl std::error::Error for LastLines {}

fn listed(conditions: &[String]) -> String {
    conditions.iter().map(|condition| format!("`{condition}`")).collect::<Vec<_>>().join(" and ")
}

fn because(deaf: Option<&VmUnresponsive>) -> String {
    deaf.map(|deaf| format!(": {}", deaf.cause.in_words())).unwrap_or_default()
}

fn status_in_words(status: Status) -> String {
    match status {
        Status::Stopped(ending) => format!("stopped ({})", ending.reason.in_words()),
        other => other.as_str().to_owned(),
    }
}
