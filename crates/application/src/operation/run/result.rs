//! What became of a run.

use maqet_domain::config::Problem;
use maqet_domain::guest::BootStage;
use serde::Serialize;

use super::super::guest::{Copied, ExecResult};
use crate::report::ErrorReport;

/// What became of a command that was run in a VM of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum RunOutcome {
    /// It exited.
    Exited,
    /// It was killed by a signal.
    Signalled,
    /// It was ended because its time was over.
    TimedOut,
    /// The VM stopped, or its guest was reset.
    VmEnded,
    /// The guest agent does not say how it ended.
    Lost,
    /// It was ended, or not started, because the caller was interrupted.
    Interrupted,
    /// It was not started: the VM did not start or boot, or something could not be copied.
    NotStarted,
}

impl RunOutcome {
    /// Returns whether the command ended on its own, or took too long.
    pub(super) const fn is_verdict(self) -> bool {
        matches!(self, Self::Exited | Self::Signalled | Self::TimedOut)
    }
}

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum RunPhase {
    /// QEMU is started.
    Start,
    /// The guest boots, until the conditions are met.
    Boot,
    /// Directories are mounted in the guest.
    Share,
    /// Files are copied into the guest.
    Copy,
    /// The command runs.
    Command,
    /// Files are copied from the guest.
    Collect,
    /// The VM is removed.
    Remove,
}

/// How long a part of a run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RunStep {
    /// The part.
    pub phase: RunPhase,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// A command that was run in a VM of its own.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct RunResult {
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// The exit code: that of the command, 128 and the number of the signal that killed it or that interrupted the run, 124 if
    /// it timed out, 125 if it was not started or something could not be collected, 126 or 127 if the program cannot be
    /// executed or does not exist, 255 if the VM ended under it.
    pub exit_code: u8,
    /// The number of the signal that killed the command.
    pub signal: Option<u8>,
    /// What became of the command; anything but `exited`, `signalled` and `timed-out` is no verdict about it.
    pub outcome: RunOutcome,
    /// The last part of the run: where it failed, if it did.
    pub phase: RunPhase,
    /// More about the outcome, where there is any.
    pub reason: Option<String>,
    /// What failed, if something did.
    pub error: Option<ErrorReport>,
    /// How far the guest came, if the command was not started or its VM ended.
    pub stage: Option<BootStage>,
    /// The last lines of the guest's serial console, likewise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub serial: Vec<String>,
    /// The template that the VM went on from, instead of booting.
    pub template: Option<String>,
    /// Why the template was rebuilt before, if it was.
    pub rebuilt: Option<String>,
    /// How long each part took.
    pub steps: Vec<RunStep>,
    /// The command, if it was started.
    pub command: Option<ExecResult>,
    /// What was copied into the guest.
    pub copied: Vec<Copied>,
    /// What was copied from the guest.
    pub collected: Vec<Copied>,
    /// Whether the VM was kept.
    pub kept: bool,
    /// Why the VM could not be removed; the next run or `cleanup` tries again.
    pub not_removed: Option<String>,
    /// Unknown keys that were ignored, and what is probably not meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
    /// Whether the caller was interrupted, be it after the command; not part of the JSON.
    #[serde(skip)]
    pub is_interrupted: bool,
    /// The end of the command's standard output and standard error; not part of the JSON.
    #[serde(skip)]
    pub output: [String; 2],
}

impl RunResult {
    /// Returns whether the command was run and what it said is known: its own failure is one, too.
    pub fn is_verdict(&self) -> bool {
        self.outcome.is_verdict() && self.error.is_none()
    }
}
