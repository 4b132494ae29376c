//! Why a QMP command returned no result.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Cause, Explain, Explanation, Fault};

/// The class of an error of QEMU (7.2, `qapi/error.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum ErrorClass {
    /// QEMU has no such command, or it is disabled.
    CommandNotFound,
    /// There is no such device.
    DeviceNotFound,
    /// The device is not in use by the guest.
    DeviceNotActive,
    /// Every other class; only the description says more.
    #[default]
    #[serde(other)]
    Generic,
}

/// Why a QMP command returned no result.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum QmpError {
    /// Nothing listens at the socket.
    #[error("cannot connect to the monitor `{}`", socket.display())]
    MonitorUnavailable { socket: PathBuf, source: Cause },
    /// The connection was accepted and no greeting came, as while another client is connected.
    #[error(
        "no QMP greeting from `{}` within {after:?}; another client may be connected, or QEMU is hung",
        socket.display()
    )]
    GreetingTimedOut { socket: PathBuf, after: Duration },
    /// Other callers used the monitor for all that time; the command was not sent.
    #[error("timed out after {after:?} waiting for other QMP commands to finish")]
    QueueTimedOut { after: Duration },
    /// The timeout was too short to connect; the command was not sent.
    #[error("timed out before the command was sent")]
    ConnectTimedOut,
    /// QEMU greeted and then did not answer: its main loop is blocked.
    #[error("QEMU is not responding: no reply to `{command}` within {after:?}")]
    Unresponsive { command: String, after: Duration },
    /// Both monitors for sessions were in use for all that time.
    #[error("timed out after {after:?} waiting for one of the two session monitors")]
    SessionsInUse { after: Duration },
    /// QEMU could not have read the command, and would have answered it more than once, or exited; it was not sent.
    #[error("`{command}` exceeds what QEMU can read: {reason}")]
    CommandTooLarge { command: String, reason: &'static str },
    #[error("no reply to `{command}` within {after:?}; it may still complete")]
    TimedOut { command: String, after: Duration },
    #[error("QEMU closed the connection before it answered `{command}`")]
    ConnectionClosed { command: String },
    #[error("invalid QMP response: {detail}")]
    InvalidResponse { detail: String },
    /// A file that is passed with a command could not be opened.
    #[error("cannot open `{}` for QEMU", path.display())]
    FileUnavailable { path: PathBuf, source: Cause },
    /// QEMU refused the command.
    #[error("QEMU refused `{command}`: {description}")]
    Refused { command: String, class: ErrorClass, description: String },
}

/// How much of a timeout is spent elsewhere, so that a measured one is the given one.
const ROUNDED: Duration = Duration::from_millis(50);

impl QmpError {
    /// Returns QEMU's description, if it refused the command.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused { description, .. } => Some(description),
            _ => None,
        }
    }

    /// Returns the error of a command, or a series of them, that took `timeout` in all; the last step had only the rest.
    #[must_use]
    pub fn of_timeout(self, timeout: Duration) -> Self {
        let after = timeout;
        match self {
            Self::TimedOut { command, .. } => Self::TimedOut { command, after },
            Self::Unresponsive { command, .. } => Self::Unresponsive { command, after },
            Self::QueueTimedOut { .. } => Self::QueueTimedOut { after },
            Self::SessionsInUse { .. } => Self::SessionsInUse { after },
            Self::GreetingTimedOut { socket, after: measured } if measured.abs_diff(timeout) < ROUNDED => {
                Self::GreetingTimedOut { socket, after }
            }
            other => other,
        }
    }

    /// Returns whether QEMU closed or refused the connection, as it does when it exits.
    pub const fn is_connection_loss(&self) -> bool {
        matches!(self, Self::ConnectionClosed { .. } | Self::MonitorUnavailable { .. })
    }
}

impl Explain for QmpError {
    fn explain(&self) -> Explanation {
        match self {
            Self::MonitorUnavailable { .. } => Explanation::new("qmp.monitor-unavailable", Fault::Failed),
            Self::GreetingTimedOut { .. } => Explanation::new("qmp.greeting-timed-out", Fault::Busy).hint("try again"),
            Self::QueueTimedOut { .. } => Explanation::new("qmp.queue-timed-out", Fault::Busy).hint("try again"),
            Self::ConnectTimedOut => {
                Explanation::new("qmp.connect-timed-out", Fault::TimedOut).hint("pass a longer `--timeout`")
            }
            Self::Unresponsive { .. } => Explanation::new("vm.unresponsive", Fault::Busy).hint("try again"),
            Self::SessionsInUse { .. } => {
                Explanation::new("qmp.sessions-in-use", Fault::Busy).hint("close another `maqet qmp shell` of this VM")
            }
            Self::CommandTooLarge { .. } => Explanation::new("qmp.command-too-large", Fault::Usage),
            Self::TimedOut { .. } => Explanation::new("qmp.timed-out", Fault::TimedOut),
            Self::ConnectionClosed { .. } => Explanation::new("qmp.connection-failed", Fault::Failed),
            Self::InvalidResponse { .. } => Explanation::new("qmp.response-invalid", Fault::Failed),
            Self::FileUnavailable { .. } => Explanation::new("qmp.file-unavailable", Fault::Host)
                .hint("check the owner and the permissions of its directory"),
            Self::Refused { class: ErrorClass::CommandNotFound, .. } => {
                Explanation::new("qmp.refused", Fault::Failed).hint("run `query-commands` for a list of commands")
            }
            Self::Refused { .. } => Explanation::new("qmp.refused", Fault::Failed),
        }
    }
}
