//! Running the user's hooks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Cause;

/// A hook that is to be run now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCall {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables it gets beside those that every program gets.
    pub variables: Vec<(&'static str, String)>,
    /// What it reads from its standard input: the event, as JSON.
    pub input: String,
    /// How long it may take.
    pub deadline: Duration,
    /// The log that takes what it prints.
    pub log: PathBuf,
}

/// Why a hook did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// There is no such program.
    #[error("there is no program `{wanted}`")]
    Missing {
        /// What was looked for.
        wanted: String,
    },
    /// It could not be run.
    #[error("it could not be run: {source}")]
    NotRun {
        /// Why.
        source: Cause,
    },
    /// It did not end in time and was ended.
    #[error("it did not end within {after:?} and was ended")]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// It printed more than a log takes, and was ended.
    #[error("it printed too much and was ended")]
    TooMuch,
    /// It ended and said that it failed.
    #[error("it ended with {status}")]
    Failed {
        /// Its exit code or signal, in words.
        status: String,
    },
}

/// Runs hooks, and remembers how far they were told of QEMU's events.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Hooks: Send + Sync {
    /// Runs a hook to its end; it and all it started are gone afterwards.
    ///
    /// Errors: every variant of [`HookError`].
    async fn run(&self, call: &HookCall) -> Result<(), HookError>;

    /// Returns how far into the flight recorder of a run its hooks were told, in bytes.
    async fn told(&self, records: &Path) -> u64;

    /// Remembers how far they were told; where that is not possible they are told again the next time.
    async fn set_told(&self, records: &Path, offset: u64);
}
