//! Running the user's hooks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::error::Cause;

/// One call of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCall {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Environment variables, in addition to those that every program gets.
    pub variables: Vec<(&'static str, String)>,
    /// Its standard input: the event as JSON.
    pub input: String,
    /// How long it may take.
    pub timeout: Duration,
    /// The log for its output.
    pub log: PathBuf,
    /// How large that may become before it is rotated.
    pub max_log_bytes: u64,
}

/// A process that a hook left running, with the hook's standard output or standard error open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftProcess {
    /// Its process ID.
    pub pid: u32,
    /// The name of its program.
    pub program: String,
}

/// How a hook that succeeded ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HookOutcome {
    /// The processes that it left running; they go on.
    pub left: Vec<LeftProcess>,
}

/// Describes left processes, as in ``left 2 processes running: `sleep` (4711), `sleep` (4712)``.
pub fn describe_left(left: &[LeftProcess]) -> String {
    let processes: Vec<String> = left.iter().map(|one| format!("`{}` ({})", one.program, one.pid)).collect();
    let noun = if left.len() == 1 { "process" } else { "processes" };
    format!("left {} {noun} running: {}", left.len(), processes.join(", "))
}

/// Why a hook failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum HookError {
    #[error("program `{program}` not found")]
    NotFound { program: String },
    #[error("cannot start the program: {source}")]
    NotStarted { source: Cause },
    #[error("timed out after {after:?} and was killed")]
    TimedOut { after: Duration },
    #[error("wrote too much output and was killed")]
    OutputTooLarge,
    /// It failed; `status` is its exit code or signal.
    #[error("ended with {status}")]
    Failed { status: String },
}

/// Runs hooks, and remembers which events of QEMU they have received.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Hooks: Send + Sync {
    /// Runs a hook until its own process exits; the rest of its process group is then killed.
    ///
    /// Processes that left the group, such as daemons, are left alone; what they write afterward is lost.
    ///
    /// Errors: every variant of [`HookError`].
    async fn run(&self, call: &HookCall) -> Result<HookOutcome, HookError>;

    /// Returns how many bytes of a run's QMP log were delivered to its hooks.
    async fn delivered(&self, records: &Path) -> u64;

    /// Stores that number; if that fails, hooks receive the same events again.
    async fn set_delivered(&self, records: &Path, offset: u64);
}
