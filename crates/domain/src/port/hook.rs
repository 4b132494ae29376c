//! Running the user's hooks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

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
    /// Runs a hook until it ends; neither it nor its children remain afterward.
    ///
    /// Errors: every variant of [`HookError`].
    async fn run(&self, call: &HookCall) -> Result<(), HookError>;

    /// Returns how many bytes of a run's QMP log were delivered to its hooks.
    async fn delivered(&self, records: &Path) -> u64;

    /// Stores that number; if that fails, hooks receive the same events again.
    async fn set_delivered(&self, records: &Path, offset: u64);
}
