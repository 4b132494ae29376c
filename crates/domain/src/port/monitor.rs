//! The monitors of running machines: commands, sessions, events.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::{Cause, Explain, Fault};
use crate::qemu::QmpEvent;
use crate::qmp::Schema;
use crate::vm::{MonitorAnswer, ProcessIdentity, RunPlaces};

/// A command of QMP.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QmpCommand {
    /// Its name, as in `query-status`.
    pub execute: String,
    /// Its arguments; left out where there are none.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub arguments: Map<String, Value>,
}

impl QmpCommand {
    /// Makes a command without arguments.
    pub fn new(execute: impl Into<String>) -> Self {
        Self { execute: execute.into(), arguments: Map::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }
}

/// Why a QMP command got no result.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nobody listens at the socket.
    #[error("nobody listens at the monitor `{}`", socket.display())]
    NoMonitor {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: Cause,
    },
    /// The socket took us and no greeting came: another client has the monitor.
    #[error("the monitor `{}` did not greet within {after:?}: another client has it, or QEMU hangs", socket.display())]
    NoGreeting {
        /// The socket.
        socket: PathBuf,
        /// How long was waited.
        after: Duration,
    },
    /// Others had the monitor all the time; the command was not sent.
    #[error("other commands had the monitor of the VM for {after:?}; this one's turn did not come")]
    QueueTimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// There was too little time to be greeted in; the command was not sent.
    #[error("the time was over before QEMU could be asked")]
    NoTime,
    /// The greeting came and then nothing: QEMU's main loop is blocked.
    #[error("QEMU is busy: it greeted and did not answer `{command}` within {after:?}")]
    Blocked {
        /// What it was asked first.
        command: String,
        /// How long was waited.
        after: Duration,
    },
    /// Others had both monitors for sessions all the time.
    #[error("both monitors for sessions are in use and did not come free within {after:?}")]
    SessionsTaken {
        /// How long was waited.
        after: Duration,
    },
    /// QEMU could not have read the command, and would have answered it more than once, or ended; it was not sent.
    #[error("`{command}` is more than QEMU reads at once: {why}")]
    TooMuch {
        /// The command.
        command: String,
        /// What there is too much of.
        why: &'static str,
    },
    /// The command was sent and not answered in time; it may still be carried out.
    #[error("`{command}` was not answered within {after:?}; it may still complete")]
    TimedOut {
        /// The command.
        command: String,
        /// How long was waited.
        after: Duration,
    },
    /// QEMU closed the connection.
    #[error("QEMU closed the monitor before it answered `{command}`")]
    Closed {
        /// The command.
        command: String,
    },
    /// What came is no QMP.
    #[error("the monitor answered something that is not QMP: {detail}")]
    Garbled {
        /// What is wrong with it.
        detail: String,
    },
    /// QEMU refused the command.
    #[error("QEMU refused `{command}`: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's error class, as in `CommandNotFound`.
        class: String,
        /// QEMU's words.
        description: String,
    },
}

impl Explain for QmpError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoMonitor { .. } => "qmp.no-monitor",
            Self::NoGreeting { .. } => "qmp.no-greeting",
            Self::QueueTimedOut { .. } => "qmp.queue-timed-out",
            Self::NoTime => "qmp.no-time",
            Self::SessionsTaken { .. } => "qmp.sessions-taken",
            Self::Blocked { .. } => "qmp.blocked",
            Self::TooMuch { .. } => "qmp.too-much",
            Self::TimedOut { .. } => "qmp.timed-out",
            Self::Closed { .. } => "qmp.closed",
            Self::Garbled { .. } => "qmp.garbled",
            Self::Refused { .. } => "qmp.refused",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::NoMonitor { .. } | Self::Closed { .. } | Self::Garbled { .. } | Self::Refused { .. } => Fault::Failed,
            Self::NoGreeting { .. }
            | Self::QueueTimedOut { .. }
            | Self::SessionsTaken { .. }
            | Self::Blocked { .. } => Fault::Busy,
            Self::TooMuch { .. } => Fault::Usage,
            Self::NoTime | Self::TimedOut { .. } => Fault::TimedOut,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Refused { class, .. } if class == "CommandNotFound" => {
                vec!["list the commands with `maqet qmp VM query-commands`".to_owned()]
            }
            Self::NoGreeting { .. } | Self::QueueTimedOut { .. } | Self::Blocked { .. } => vec!["try again".to_owned()],
            Self::NoTime => vec!["give it more time, as with `--timeout 5s`".to_owned()],
            Self::SessionsTaken { .. } => vec!["leave one of the `maqet qmp shell` of this VM".to_owned()],
            Self::NoMonitor { .. }
            | Self::TooMuch { .. }
            | Self::TimedOut { .. }
            | Self::Closed { .. }
            | Self::Garbled { .. }
            | Self::Refused { .. } => Vec::new(),
        }
    }
}

/// Talks to the monitors of running machines, connecting on demand.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Monitors: Send + Sync {
    /// Runs a command on the command monitor; callers of all processes queue, and the deadline covers the waiting.
    ///
    /// Errors: every variant of [`QmpError`].
    async fn execute(&self, places: &RunPlaces, command: &QmpCommand, deadline: Duration) -> Result<Value, QmpError>;

    /// Asks for the run state, at most `patience`.
    async fn answer(&self, places: &RunPlaces, patience: Duration) -> MonitorAnswer;

    /// Opens a session that stays, on one of the two monitors for them; it is the caller's until it is dropped.
    ///
    /// The events that come from then on are kept for [`MonitorSession::heard`]. The deadline covers the waiting for a
    /// monitor, its greeting and the negotiation. Errors: every variant of [`QmpError`] but `TimedOut`.
    async fn session(&self, places: &RunPlaces, deadline: Duration) -> Result<Box<dyn MonitorSession>, QmpError>;
}

/// What a session hears unasked.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
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
    async fn heard(&mut self, patience: Duration) -> Result<Option<Heard>, QmpError>;

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
