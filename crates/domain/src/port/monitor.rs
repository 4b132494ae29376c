//! The monitors of running machines: commands, sessions, events.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::qmp::{QmpCommand, QmpError, QmpEvent, Schema};
use crate::vm::{MonitorAnswer, ProcessIdentity, RunPaths};

/// Talks to the monitors of running machines, connecting on demand.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Monitors: Send + Sync {
    /// Runs a command on the command monitor; callers of all processes queue, and the deadline covers the waiting.
    ///
    /// Errors: every variant of [`QmpError`].
    async fn execute(&self, paths: &RunPaths, command: &QmpCommand, deadline: Duration) -> Result<Value, QmpError>;

    /// Asks for the run state, at most `patience`.
    async fn answer(&self, paths: &RunPaths, patience: Duration) -> MonitorAnswer;

    /// Opens a session that stays, on one of the two monitors for them; it is the caller's until it is dropped.
    ///
    /// The events that come from then on are kept for [`MonitorSession::heard`]. The deadline covers the waiting for a
    /// monitor, its greeting and the negotiation. Errors: every variant of [`QmpError`] but `TimedOut`.
    async fn session(&self, paths: &RunPaths, deadline: Duration) -> Result<Box<dyn MonitorSession>, QmpError>;
}

/// What a session hears unasked.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionEvent {
    /// Something happened.
    Event(QmpEvent),
    /// So many events were dropped, because nobody took them in time.
    Missed(u64),
}

/// How the main loop of a QEMU is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MainLoop {
    /// It answers.
    Answers,
    /// It does not answer, and QEMU itself does: it is at work, as while it saves a machine.
    Blocked,
    /// Nothing answers.
    Silent,
}

/// A session with a monitor: it was greeted, takes commands one after the other, and hears events.
///
/// All methods may be given up at any moment (their futures dropped): the session stays usable, and the answer to a
/// command that nobody waits for any more is dropped when it comes.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait MonitorSession: Send {
    /// Runs a command, at most `deadline`.
    ///
    /// Errors: `Refused`, `TimedOut`, `Blocked` when too many commands before it are unanswered, `Closed`, `Garbled`.
    async fn execute(&mut self, command: &QmpCommand, deadline: Duration) -> Result<Value, QmpError>;

    /// Returns the next event, waiting at most `patience` for one; events that came during commands are first.
    ///
    /// Errors: `Closed`, `Garbled`.
    async fn heard(&mut self, patience: Duration) -> Result<Option<SessionEvent>, QmpError>;

    /// Tells a main loop that is at work from a QEMU that is dead, by a command out of band, within `patience`.
    async fn main_loop(&mut self, patience: Duration) -> MainLoop;
}

/// Keeps the schema of QMP that a build of QEMU told once, for every process after this one.
///
/// What is kept is the build's that `process` runs: another build, or one that was replaced, has none. Keeping is a
/// favour that may fail, and then QEMU is asked again.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Schemas: Send + Sync {
    /// Returns the schema of the QEMU that `process` runs, if it is kept and whole.
    fn kept(&self, process: &ProcessIdentity) -> Option<Schema>;

    /// Keeps the schema of the QEMU that `process` runs.
    fn keep(&self, process: &ProcessIdentity, schema: &Schema);
}
