//! Why a QMP command returned no result.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Cause, Explain, Fault};

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
