//! The monitors of running VMs: commands, sessions, events.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::qmp::{QmpCommand, QmpError, QmpEvent, Schema};
use crate::vm::{MonitorAnswer, ProcessIdentity, RunPaths};

/// The monitors of running VMs, connected to on demand.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Monitors: Send + Sync {
    /// Runs a command on the command monitor.
    ///
    /// Callers of all processes queue, and `timeout` covers the time in the queue. Errors: every variant of [`QmpError`].
    async fn execute(&self, paths: &RunPaths, command: &QmpCommand, timeout: Duration) -> Result<Value, QmpError>;

    /// Queries the run state, within `timeout`.
    async fn answer(&self, paths: &RunPaths, timeout: Duration) -> MonitorAnswer;

    /// Opens a session on one of the two session monitors; it belongs to the caller until it is dropped.
    ///
    /// Events from then on are kept for [`MonitorSession::next_event`]. `timeout` covers waiting for a free monitor, its
    /// greeting and the negotiation. Errors: every variant of [`QmpError`] except `TimedOut`.
    async fn session(&self, paths: &RunPaths, timeout: Duration) -> Result<Box<dyn MonitorSession>, QmpError>;
}

/// What a session receives besides replies.
#[derive(Debug, Clone, PartialEq)]
pub enum SessionEvent {
    /// An event.
    Event(QmpEvent),
    /// This many events were dropped, as they were not read in time.
    Missed(u64),
}

/// Whether QEMU's main loop responds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MainLoop {
    /// It responds.
    Answers,
    /// QEMU responds out of band only: the main loop is busy, as while a snapshot is saved.
    Blocked,
    /// QEMU does not respond.
    Unresponsive,
}

/// For what QEMU gets the descriptor of a file, which it accepts for nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassedFor {
    /// It only reads.
    Reading,
    /// It only writes.
    Writing,
}

/// A session with a monitor, which runs commands one after the other and receives events.
///
/// All methods are cancel safe: the session stays usable, and a reply that comes after its future was dropped is
/// discarded.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait MonitorSession: Send {
    /// Runs a command, within `timeout`.
    ///
    /// Errors: `Refused`, `TimedOut`, `Unresponsive` if too many earlier commands are unanswered, `CommandTooLarge`,
    /// `ConnectionClosed`, `InvalidResponse`.
    async fn execute(&mut self, command: &QmpCommand, timeout: Duration) -> Result<Value, QmpError>;

    /// Runs a command as [`execute`](Self::execute) does, and passes QEMU a descriptor of an existing file with it, at its
    /// start.
    ///
    /// Errors: those of `execute`, and `FileUnavailable`.
    async fn execute_with_file(
        &mut self,
        command: &QmpCommand,
        file: &Path,
        purpose: PassedFor,
        timeout: Duration,
    ) -> Result<Value, QmpError>;

    /// Returns the next event, waiting at most `timeout` for one; those received during commands come first.
    ///
    /// Errors: `ConnectionClosed`, `InvalidResponse`.
    async fn next_event(&mut self, timeout: Duration) -> Result<Option<SessionEvent>, QmpError>;

    /// Finds out, by an out-of-band command and within `timeout`, whether the main loop is busy or QEMU does not
    /// respond.
    async fn main_loop(&mut self, timeout: Duration) -> MainLoop;
}

/// A cache of QMP schemas, shared by all processes.
///
/// A schema belongs to the build of QEMU that `process` runs; another build, or one that was replaced, has none. Storing
/// may fail silently, and then QEMU is asked again.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Schemas: Send + Sync {
    /// Returns the schema of the QEMU that `process` runs, if it is stored and intact.
    fn get(&self, process: &ProcessIdentity) -> Option<Schema>;

    /// Stores the schema of the QEMU that `process` runs.
    fn put(&self, process: &ProcessIdentity, schema: &Schema);
}
