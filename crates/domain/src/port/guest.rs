//! The channels to the guests of running VMs: the agent, and the ports of commands.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::error::{Cause, Explain, Explanation, Fault};
use crate::guest::{AgentCommand, GuestStream, InvalidReply, Nonce, PortSet, SshLogin};
use crate::qmp::wording::{is_command_disabled, is_frozen};
use crate::vm::RunPaths;

/// Why the guest agent did not do what was requested.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum AgentError {
    /// The VM was started without the channel.
    #[error("the VM has no channel to a guest agent")]
    NoChannel,
    #[error("cannot connect to the guest agent")]
    Failed { source: Cause },
    #[error("other processes use the guest agent")]
    Busy,
    /// The process that uses the agent was stopped by a signal.
    #[error("process {pid} uses the guest agent and is stopped")]
    UserStopped { pid: u32 },
    #[error("the guest agent did not answer within {} s", after.as_secs_f32())]
    Unresponsive { after: Duration },
    /// QEMU closed the channel: it exited.
    #[error("the connection to the guest agent was closed")]
    Closed,
    #[error("the guest agent refused `{command}`: {description}")]
    Refused { command: &'static str, class: String, description: String },
    #[error("the guest agent sent an invalid reply to `{command}`")]
    Invalid { command: &'static str, source: InvalidReply },
    /// A reply in the form of the protocol with another content than that of the command.
    #[error("the guest agent sent an unexpected reply to `{command}`")]
    Unexpected { command: &'static str },
}

impl Explain for AgentError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoChannel => Explanation::new("guest.channel-not-found", Fault::State)
                .hint("set `guest: {agent: true}`, without a virtio-serial device of your own, and restart the VM"),
            Self::Failed { .. } => Explanation::new("guest.agent-failed", Fault::Failed),
            Self::Busy => Explanation::new("guest.agent-busy", Fault::Busy),
            Self::UserStopped { pid } => Explanation::new("guest.agent-busy", Fault::Busy)
                .hint(format!("let it go on: `kill -CONT {pid}`")),
            Self::Unresponsive { .. } => Explanation::new("guest.agent-unresponsive", Fault::TimedOut)
                .hint("check in the guest that its agent runs: `systemctl status qemu-guest-agent`"),
            Self::Closed => Explanation::new("guest.agent-unavailable", Fault::State),
            Self::Refused { class, description, .. } if is_command_disabled(class, description) => {
                Explanation::new("guest.command-unsupported", Fault::State)
                    .hint("allow it in the guest: options `block-rpcs` and `allow-rpcs` of qemu-ga")
            }
            Self::Refused { description, .. } if is_frozen(description) => {
                Explanation::new("guest.agent-conflict", Fault::State).hint(
                    "wait until the backup that froze the file systems of the guest has ended, or reset it: `maqet reset VM`",
                )
            }
            Self::Refused { .. } => Explanation::new("guest.agent-refused", Fault::Failed),
            Self::Invalid { .. } | Self::Unexpected { .. } => Explanation::new("guest.reply-invalid", Fault::Failed),
        }
    }
}

/// A synchronized connection to a guest agent; other processes wait until it is dropped.
///
/// An agent that sees its client leave sleeps for 100 ms (`qga/channel-posix.c`, 7.2): requests that follow each other
/// are better sent on one session.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait AgentSession: Send {
    /// Runs a command, whose reply has at most `limit` bytes and comes within `timeout`, which begins again with each part
    /// of a large request or reply.
    ///
    /// After an error other than `Refused`, the session is of no use.
    ///
    /// Errors: `Unresponsive`, `Closed`, `Refused`, `Invalid`, `Failed`.
    async fn execute(&mut self, command: &AgentCommand, limit: usize, timeout: Duration) -> Result<Value, AgentError>;

    /// Returns whether another process waits for the agent.
    fn is_wanted(&self) -> bool;
}

/// The agents of guests, connected to on demand.
///
/// What a guest answers is never trusted: replies are bounded in size and time.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait GuestAgents: Send + Sync {
    /// Connects, once other processes do not use the agent, and synchronizes within `timeout`.
    ///
    /// Errors: `NoChannel`, `Busy`, `UserStopped`, `Unresponsive`, `Closed`, `Failed`.
    async fn session(&self, paths: &RunPaths, timeout: Duration) -> Result<Box<dyn AgentSession>, AgentError>;
}

/// Why the ports of a command cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum PortError {
    /// The VM was started without them.
    #[error("the VM has no ports for commands")]
    NotFound,
    #[error("cannot use the ports of commands")]
    Failed { source: Cause },
}

impl Explain for PortError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound => Explanation::new("guest.channel-not-found", Fault::State)
                .hint("set `guest: {agent: true}`, without a virtio-serial device of your own, and restart the VM"),
            Self::Failed { .. } => Explanation::new("guest.port-failed", Fault::Failed),
        }
    }
}

/// The ports of commands.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait GuestPorts: Send + Sync {
    /// Claims a set of ports unless another process has it.
    ///
    /// Errors: `NotFound`, `Failed`.
    async fn claim(&self, paths: &RunPaths, set: PortSet) -> Result<Option<Box<dyn PortClaim>>, PortError>;
}

/// The right to use a set of ports, until it is dropped.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait PortClaim: Send + Sync {
    /// Returns the nonce of the command that a process which did not end it has left.
    fn left(&self) -> Option<Nonce>;

    /// Notes the command that is about to be started, or that there is none; without the note, as on a full disk, what a
    /// killed process leaves is not ended.
    fn note(&self, nonce: Option<Nonce>);

    /// Connects to the ports for these streams.
    ///
    /// Errors: `NotFound`, `Failed`.
    async fn connect(&self, streams: &[GuestStream]) -> Result<Box<dyn GuestStreams>, PortError>;
}

/// The connected ports of a command.
///
/// Reading and writing may run concurrently; all methods are cancel safe.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait GuestStreams: Send + Sync {
    /// Returns the next bytes of a stream; none once QEMU has closed it, or the stream is not connected.
    ///
    /// Errors: `Failed`.
    async fn read(&self, stream: GuestStream) -> Result<Vec<u8>, PortError>;

    /// Returns bytes of a stream that are there already, as many as one read returns: a guest may send without end.
    ///
    /// Errors: `Failed`.
    fn read_now(&self, stream: GuestStream) -> Result<Vec<u8>, PortError>;

    /// Sends as many of `bytes` as fit to the standard input, waiting until some do; returns how many, 0 once QEMU has
    /// closed it.
    ///
    /// Errors: `Failed`.
    async fn write(&self, bytes: &[u8]) -> Result<usize, PortError>;

    /// Ends the standard input, after what was written.
    fn end_input(&self);
}

/// Why ssh(1) cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum SshError {
    #[error("program `{program}` not found")]
    NotFound { program: &'static str },
    #[error("cannot run `{}`", program.display())]
    Failed { program: PathBuf, source: Cause },
    #[error("cannot make a key for SSH: {reason}")]
    KeyFailed { reason: String },
}

impl Explain for SshError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotFound { .. } => Explanation::new("guest.ssh-not-found", Fault::State)
                .hint("install it: it is in package `openssh-client` or `openssh-clients`"),
            Self::Failed { .. } | Self::KeyFailed { .. } => Explanation::new("guest.ssh-failed", Fault::Failed),
        }
    }
}

/// How ssh(1) ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshEnd {
    /// Its exit code, which is that of the command unless it has a message; `None` if a signal killed it.
    pub code: Option<u8>,
    /// What it says about the connection, such as why there is none.
    pub message: String,
}

/// Runs ssh(1), and ssh-keygen(1).
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait SshClients: Send + Sync {
    /// Starts a client that logs in and runs `command` by the shell of the user.
    ///
    /// Errors: `NotFound`, `Failed`.
    async fn start(&self, login: &SshLogin, command: &str) -> Result<Box<dyn SshClient>, SshError>;

    /// Makes a pair of keys unless it is there: the private key at `path`, the public key beside it with `.pub` at its end,
    /// each whole or not at all. No other process may do so meanwhile.
    ///
    /// Errors: `NotFound`, `Failed`, `KeyFailed`.
    async fn make_key(&self, path: &Path, comment: &str) -> Result<(), SshError>;
}

/// A running ssh(1), which is killed when it is dropped.
///
/// Reading and writing may run concurrently; all methods are cancel safe.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait SshClient: Send + Sync {
    /// Returns the next bytes of a stream; none at its end.
    ///
    /// Errors: `Failed`.
    async fn read(&self, stream: GuestStream) -> Result<Vec<u8>, SshError>;

    /// Sends as many of `bytes` as fit to the standard input, waiting until some do; returns how many, 0 once nothing reads
    /// it any more.
    ///
    /// Errors: `Failed`.
    async fn write(&self, bytes: &[u8]) -> Result<usize, SshError>;

    /// Ends the standard input, after what was written.
    fn end_input(&self);

    /// Waits until it has ended; returns how.
    ///
    /// Errors: `Failed`.
    async fn end(&self) -> Result<SshEnd, SshError>;
}
