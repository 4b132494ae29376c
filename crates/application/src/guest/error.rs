//! Why a command in a guest was not started.

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::guest::{ExecFailure, GuestCommand, InvalidEnvironmentVariable, InvalidUserName};
use maqet_domain::port::{AgentError, PortError, SshError};
use maqet_domain::text::quote;
use maqet_domain::vm::VmName;

use super::quiesce::QuiesceError;
use super::request::{ExecVia, ExecWayRefused};
use crate::{HumanDuration, limits};

/// Why a command in a guest was not started.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum ExecError {
    #[error("no command given")]
    CommandRequired,
    #[error(transparent)]
    User(#[from] InvalidUserName),
    #[error(transparent)]
    Variable(#[from] InvalidEnvironmentVariable),
    #[error("the command has a NUL character")]
    CommandInvalid,
    #[error("program `{}` not found in VM `{vm}`", program.escape_debug())]
    ProgramNotFound { vm: VmName, program: String },
    #[error("program `{}` in VM `{vm}` is not executable", program.escape_debug())]
    ProgramInvalid { vm: VmName, program: String },
    #[error("no user `{user}` in VM `{vm}`")]
    UserNotFound { vm: VmName, user: String },
    #[error("no directory `{}` in VM `{vm}`", directory.escape_debug())]
    DirectoryNotFound { vm: VmName, directory: String },
    #[error("cannot start the command in VM `{vm}`: {reason}")]
    Failed { vm: VmName, reason: String },
    /// The agent has started a process, from which nothing came.
    #[error("the command in VM `{vm}` did not start within {after}")]
    TimedOut { vm: VmName, after: HumanDuration },
    #[error("VM `{vm}` cannot make a terminal: it has no program `script`")]
    TerminalUnsupported { vm: VmName },
    #[error("VM `{vm}` has no room for the record of a detached command")]
    RecordFailed { vm: VmName },
    #[error("a detached command has no input and no terminal")]
    DetachedConflict,
    #[error("no detached command `{}` in VM `{vm}`", id.escape_debug())]
    DetachedNotFound { vm: VmName, id: String },
    #[error("`{id}` is the beginning of several IDs of detached commands in VM `{vm}`")]
    DetachedAmbiguous { vm: VmName, id: String },
    #[error("command `{id}` in VM `{vm}` did not end within {after}")]
    DetachedTimedOut { vm: VmName, id: String, after: HumanDuration },
    #[error("VM `{vm}` did not list its detached commands within {after}")]
    ListTimedOut { vm: VmName, after: HumanDuration },
    #[error("cannot list the detached commands in VM `{vm}`: {reason}")]
    ListFailed { vm: VmName, reason: String },
    #[error("the input of the command exceeds {} MiB", limits::MAX_CAPTURED_BYTES >> 20)]
    InputTooLarge { vm: VmName },
    /// No process in the guest has the agent's port open.
    #[error("no guest agent runs in VM `{vm}`")]
    NoAgent { vm: VmName },
    #[error("no way to run a command in VM `{vm}`{}", listed(refused))]
    NoWay {
        vm: VmName,
        refused: Vec<ExecWayRefused>,
        /// Why the first one was refused, which is what to do something about.
        first: Option<Box<Self>>,
    },
    #[error("a command that is run by `{via}` {what}")]
    WayUnsupported { via: ExecVia, what: &'static str },
    #[error("cannot log in to VM `{vm}` by SSH: no host port is forwarded to its port 22")]
    NoSshForward { vm: VmName },
    #[error("cannot log in to VM `{vm}` by SSH: {reason}")]
    SshUnavailable { vm: VmName, reason: String },
    #[error("cannot run a command in VM `{vm}` by SSH")]
    Ssh { vm: VmName, source: SshError },
    #[error("the guest agent of VM `{vm}` does not run commands")]
    Agent { vm: VmName, source: AgentError },
    #[error("cannot connect to the streams of a command in VM `{vm}`")]
    Port { vm: VmName, source: PortError },
    #[error(transparent)]
    Quiesce(#[from] QuiesceError),
    #[error("cannot mount a shared directory at `{}` in VM `{vm}`: {reason}", path.escape_debug())]
    MountFailed { vm: VmName, path: String, reason: String },
    #[error("cannot run a command in VM `{vm}`: its CPUs are stopped ({state})")]
    Stopped { vm: VmName, state: String },
}

fn listed(refused: &[ExecWayRefused]) -> String {
    let reasons: Vec<String> = refused.iter().map(|one| format!("; {}: {}", one.via, one.reason)).collect();
    reasons.concat()
}

impl ExecError {
    /// Returns whether no agent answers, so that another way may do.
    pub(crate) const fn has_no_agent(&self) -> bool {
        match self {
            Self::NoAgent { .. } => true,
            Self::Agent { source, .. } => matches!(source, AgentError::NoChannel | AgentError::Unresponsive { .. }),
            _ => false,
        }
    }

    /// Makes the error of what the script in the guest has found.
    pub(crate) fn of(failure: ExecFailure, vm: &VmName, command: &GuestCommand) -> Self {
        let vm = vm.clone();
        let program = || command.args.first().cloned().unwrap_or_default();
        match failure {
            ExecFailure::NotFound => Self::ProgramNotFound { vm, program: program() },
            ExecFailure::NotExecutable => Self::ProgramInvalid { vm, program: program() },
            ExecFailure::NoUser => {
                Self::UserNotFound { vm, user: command.user.as_ref().map(ToString::to_string).unwrap_or_default() }
            }
            ExecFailure::NoDirectory => {
                Self::DirectoryNotFound { vm, directory: command.directory.clone().unwrap_or_default() }
            }
            ExecFailure::NoRecord => Self::RecordFailed { vm },
            ExecFailure::NoTerminal => Self::TerminalUnsupported { vm },
            ExecFailure::NoPort => {
                Self::Failed { vm, reason: "its kernel does not show the ports (`virtio_console`)".to_owned() }
            }
        }
    }
}

impl Explain for ExecError {
    fn explain(&self) -> Explanation {
        match self {
            Self::CommandRequired => Explanation::new("guest.command-required", Fault::Usage),
            Self::User(_) => Explanation::new("guest.user-invalid", Fault::Usage),
            Self::Variable(_) => Explanation::new("guest.variable-invalid", Fault::Usage),
            Self::CommandInvalid => Explanation::new("guest.command-invalid", Fault::Usage),
            Self::ProgramNotFound { program, .. } if program.contains(char::is_whitespace) => {
                Explanation::new("guest.program-not-found", Fault::NotFound)
                    .hint(format!("run it by a shell: `sh -c {}`", quote(program)))
            }
            Self::ProgramNotFound { .. } => Explanation::new("guest.program-not-found", Fault::NotFound),
            Self::ProgramInvalid { .. } => Explanation::new("guest.program-invalid", Fault::State),
            Self::UserNotFound { .. } => Explanation::new("guest.user-not-found", Fault::NotFound),
            Self::DirectoryNotFound { .. } => Explanation::new("guest.directory-not-found", Fault::NotFound),
            Self::Failed { .. } | Self::ListFailed { .. } => Explanation::new("guest.exec-failed", Fault::Failed),
            Self::TimedOut { .. } => Explanation::new("guest.exec-timed-out", Fault::TimedOut),
            Self::TerminalUnsupported { .. } => Explanation::new("guest.terminal-unsupported", Fault::State)
                .hint("install `script` in the guest: it is in package `bsdutils` or `util-linux`"),
            Self::RecordFailed { .. } => Explanation::new("guest.record-failed", Fault::Failed)
                .hint("check in the guest that `/var/lib` or `/run` can be written, and has space"),
            Self::DetachedConflict => Explanation::new("guest.command-conflict", Fault::Usage),
            Self::DetachedNotFound { vm, .. } => Explanation::new("guest.command-not-found", Fault::NotFound)
                .hint(format!("list them: `maqet exec ls {vm}`")),
            Self::DetachedAmbiguous { vm, .. } => Explanation::new("guest.command-ambiguous", Fault::Usage)
                .hint(format!("list them: `maqet exec ls {vm}`")),
            Self::DetachedTimedOut { .. } | Self::ListTimedOut { .. } => {
                Explanation::new("guest.command-timed-out", Fault::TimedOut)
            }
            Self::InputTooLarge { vm } => Explanation::new("guest.input-too-large", Fault::Usage)
                .hint(format!("wait until another command in `{vm}` has ended: its ports take input of any size")),
            Self::NoAgent { vm } => Explanation::new("guest.agent-unavailable", Fault::State)
                .hint(format!("wait until it has booted: `maqet wait {vm} --for agent`"))
                .hint("install the agent in the guest: `apt install qemu-guest-agent`"),
            Self::NoWay { first: Some(first), .. } => first.explain(),
            Self::WayUnsupported { .. } => Explanation::new("guest.way-unsupported", Fault::Usage),
            Self::NoSshForward { .. } => Explanation::new("guest.ssh-unavailable", Fault::State)
                .hint("add a forwarded port under `network`, such as `forward: [\"0:22\"]`"),
            Self::SshUnavailable { vm, .. } => Explanation::new("guest.ssh-unavailable", Fault::State)
                .hint(format!("wait until its server answers: `maqet wait {vm} --for ssh`"))
                .hint("check the user and the key: `ssh: {user: NAME, key: FILE}`"),
            Self::Ssh { source, .. } => source.explain(),
            Self::NoWay { first: None, .. } => Explanation::new("guest.exec-unavailable", Fault::State),
            Self::Quiesce(inner) => inner.explain(),
            Self::Agent { source, .. } => source.explain(),
            Self::Port { source, .. } => source.explain(),
            Self::MountFailed { .. } => Explanation::new("guest.mount-failed", Fault::Failed)
                .hint("check that the kernel of the guest supports 9p: those for clouds do not")
                .hint("copy the directory instead: `--copy SOURCE:TARGET`"),
            Self::Stopped { vm, .. } => {
                Explanation::new("guest.exec-unavailable", Fault::State).hint(format!("run `maqet resume {vm}`"))
            }
        }
    }
}
