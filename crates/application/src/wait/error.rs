//! Why waiting failed.

use std::fmt;

use jiff::Timestamp;
use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::port::AgentError;
use maqet_domain::text::{is_control, without_escape_sequences};
use maqet_domain::vm::{Status, VmName};

use crate::HumanDuration;
use crate::vm::unresponsive::VmUnresponsive;

/// Why waiting failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum WaitError {
    #[error("timed out after {after} waiting for {} on VM `{vm}`{}", listed(unmet, *any), because(unresponsive.as_deref(), halted.as_ref()))]
    TimedOut {
        vm: VmName,
        unmet: Vec<String>,
        /// Whether one condition would have been enough.
        any: bool,
        after: HumanDuration,
        /// What kept its QEMU from responding.
        unresponsive: Option<Box<VmUnresponsive>>,
        /// Why its guest does not run.
        halted: Option<HaltedVm>,
        /// The end of its serial log.
        source: LastLines,
    },
    /// `state` is its status with the reason for it.
    #[error("cannot wait for `{condition}`: VM `{vm}` is {state}")]
    VmUnavailable { vm: VmName, status: Status, state: String, condition: String, source: LastLines },
    /// The run ended in another way than the condition expects.
    #[error("`{condition}` not met: VM `{vm}` is {state}")]
    UnexpectedEnd { vm: VmName, state: String, condition: String, source: LastLines },
    #[error("no wait condition given")]
    ConditionRequired,
    #[error(
        "cannot wait for serial output of VM `{vm}` since {since}, which is after its start: the output has no times"
    )]
    SinceUnsupported { vm: VmName, since: Timestamp },
    #[error("VM `{vm}` has no channel to a guest agent")]
    NoAgentChannel { vm: VmName },
    #[error("cloud-init failed on VM `{vm}`: {}", errors.join("; "))]
    CloudInitFailed { vm: VmName, errors: Vec<String> },
    #[error("cloud-init is disabled on VM `{vm}`")]
    CloudInitDisabled { vm: VmName },
    #[error("the start of VM `{vm}` ended in the emergency mode{}", failed(units))]
    BootFailed { vm: VmName, units: Vec<String> },
    #[error("the guest of VM `{vm}` has no {program}")]
    NoSuchProgram { vm: VmName, program: &'static str },
    #[error("cannot ask the guest agent of VM `{vm}` for `{condition}`")]
    AgentRefused { vm: VmName, condition: String, source: AgentError },
    #[error("no host port is forwarded to port {port} of VM `{vm}`")]
    NoForward {
        vm: VmName,
        port: u16,
        /// The ports that are forwarded.
        known: Vec<String>,
    },
}

impl Explain for WaitError {
    fn explain(&self) -> Explanation {
        match self {
            Self::TimedOut { unresponsive: Some(unresponsive), .. } => {
                Explanation { hints: unresponsive.hints(), ..Explanation::new("wait.timed-out", Fault::TimedOut) }
            }
            Self::TimedOut { halted: Some(HaltedVm { hint: Some(hint), .. }), .. } => {
                Explanation::new("wait.timed-out", Fault::TimedOut).hint(hint)
            }
            Self::TimedOut { vm, .. } => Explanation::new("wait.timed-out", Fault::TimedOut)
                .hint("pass a longer `--timeout`")
                .hint(format!("check its console with `maqet logs {vm} --follow`")),
            Self::VmUnavailable { vm, status: Status::Defined, .. } => {
                Explanation::new("wait.vm-unavailable", Fault::State).hint(format!("start it with `maqet start {vm}`"))
            }
            Self::VmUnavailable { vm, status: Status::Panicked, .. } => {
                Explanation::new("wait.vm-unavailable", Fault::State).hint(format!("reset it with `maqet reset {vm}`"))
            }
            Self::UnexpectedEnd { vm, .. } => Explanation::new("wait.run-failed", Fault::Failed)
                .hint(format!("check its events with `maqet events {vm}`"))
                .hint("wait for `stopped=any` if every end will do"),
            Self::VmUnavailable { vm, .. } => Explanation::new("wait.vm-unavailable", Fault::State)
                .hint(format!("check its events with `maqet events {vm}`"))
                .hint(format!("start it with `maqet start {vm}`")),
            Self::ConditionRequired => {
                Explanation::new("wait.condition-required", Fault::Usage).hint("pass a condition with `--for`")
            }
            Self::SinceUnsupported { .. } => Explanation::new("wait.since-unsupported", Fault::Usage)
                .hint("pass `--since boot` or `--since now`, and wait for events in a command of its own"),
            Self::CloudInitFailed { vm, .. } => Explanation::new("wait.cloud-init-failed", Fault::Failed)
                .hint(format!("read its log with `maqet exec {vm} -- cat /var/log/cloud-init-output.log`")),
            Self::CloudInitDisabled { .. } => Explanation::new("wait.cloud-init-unavailable", Fault::State)
                .hint("add `seed` to the definition: cloud-init found nothing to do when the guest booted"),
            Self::BootFailed { vm, .. } => Explanation::new("wait.boot-failed", Fault::Failed)
                .hint(format!("check its console with `maqet logs {vm}`")),
            Self::NoSuchProgram { .. } => Explanation::new("wait.condition-unsupported", Fault::State)
                .hint("wait for `agent`, or for what the guest writes to its console, as in `serial:login:`"),
            Self::AgentRefused { source, .. } => source.explain(),
            Self::NoAgentChannel { .. } => AgentError::NoChannel.explain(),
            Self::NoForward { known, .. } if known.is_empty() => {
                Explanation::new("wait.forward-not-found", Fault::Usage)
                    .hint("add a forwarded port under `network`, such as `forward: [\"0:22\"]`")
            }
            Self::NoForward { known, .. } => Explanation::new("wait.forward-not-found", Fault::Usage)
                .hint(format!("choose one of its forwarded ports: {}", known.join(", "))),
        }
    }
}

/// Returns which units failed, after a colon.
fn failed(units: &[String]) -> String {
    if units.is_empty() { String::new() } else { format!(": {} failed", units.join(", ")) }
}

/// A VM whose guest does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaltedVm {
    /// Its status, with the reason for it.
    pub state: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The last lines of a guest's serial console.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LastLines(Vec<String>);

impl LastLines {
    /// Takes at most `max` of the last lines of `text` that are not blank.
    pub fn new(text: &str, max: usize) -> Self {
        let text = without_escape_sequences(text);
        let lines: Vec<&str> = text.lines().map(shown_of_line).filter(|line| !line.is_empty()).collect();
        Self(lines[lines.len().saturating_sub(max)..].iter().map(|line| without_control(line)).collect())
    }

    /// Returns the lines.
    pub fn into_lines(self) -> Vec<String> {
        self.0
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

/// Returns what a terminal shows last of a line that was written over with carriage returns.
fn shown_of_line(line: &str) -> &str {
    let line = line.trim_end();
    line.rsplit('\r').next().unwrap_or(line).trim_end()
}

/// Returns a line without the other characters that a terminal obeys.
fn without_control(line: &str) -> String {
    line.replace('\t', "    ").chars().filter(|c| !is_control(*c)).collect()
}

fn listed(conditions: &[String], any: bool) -> String {
    let quoted: Vec<String> = conditions.iter().map(|condition| format!("`{condition}`")).collect();
    quoted.join(if any { " or " } else { " and " })
}

fn because(unresponsive: Option<&VmUnresponsive>, halted: Option<&HaltedVm>) -> String {
    match (unresponsive, halted) {
        (Some(unresponsive), _) => format!(": {}", unresponsive.cause),
        (None, Some(halted)) => format!(": it is {}", halted.state),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_last_lines_are_as_a_terminal_shows_them() {
        let text =
            "old\n\u{1b}[1;31mfailed\u{1b}[0m\u{7}\tat once\r\n\u{1b}[2J\n 10%\r 100%\r\n\u{1b}]0;t\u{1b}\\login: ";

        let shown = LastLines::new(text, 3).to_string();

        assert_eq!(shown, "the last lines of its serial console are:\nfailed    at once\n 100%\nlogin:");
    }
}
