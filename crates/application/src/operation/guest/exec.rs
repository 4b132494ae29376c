//! `exec`: runs a command in a running VM.

use std::fmt;
use std::sync::Arc;

use derive_setters::Setters;
use jiff::Timestamp;
use maqet_domain::guest::{ExitStatus, GuestCommand};
use maqet_domain::vm::StopReason;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::ways::{Ways, unless_stopped};
use crate::app::operations::{Done, Effect, Operation};
use crate::guest::by_agent::Ended;
use crate::guest::detached::DetachedCommands;
use crate::guest::error::ExecError;
use crate::guest::pump::PumpEnd;
use crate::guest::request::{ExecRequest, ExecVia, ExecWayRefused};
use crate::guest::streams::{CapturedStreams, ExecStreams};
use crate::vm::ended::stop_reason;
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration, limits};

/// Runs a command in a running VM.
///
/// No shell is implied. Without [`streams`](Self::streams) of the caller, the output is part of the result.
#[derive(Clone, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Exec {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// The program and its arguments; none for the login shell of the user, on a terminal of the caller.
    pub command: Vec<String>,
    /// The user of the guest; root by default.
    pub user: Option<String>,
    /// The directory in the guest; the home directory of the user by default.
    pub directory: Option<String>,
    /// Variables of the environment, as in `NAME=VALUE`.
    #[serde(default)]
    pub environment: Vec<String>,
    /// The standard input; without one, the command reads from `/dev/null`.
    pub input: Option<String>,
    /// How long the command may take, from the start of the operation.
    pub timeout: Option<HumanDuration>,
    /// How long after SIGTERM a command that has timed out gets SIGKILL; ten seconds by default.
    pub kill_after: Option<HumanDuration>,
    /// Whether standard error goes where standard output goes, in the order of the writes.
    #[serde(default)]
    pub merge: bool,
    /// Whether the command is only started: it goes on without maqet, and its output is kept in the guest.
    #[serde(default)]
    pub detach: bool,
    /// By what the command is connected.
    #[serde(default)]
    pub via: ExecVia,
    /// The streams of the caller; not part of the JSON.
    #[serde(skip)]
    #[setters(skip)]
    streams: Option<Arc<dyn ExecStreams>>,
    /// Whose input and signals are for the command, while its output is captured; not part of the JSON.
    #[serde(skip)]
    #[setters(skip)]
    captured: Option<Arc<dyn ExecStreams>>,
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ExecOutcome {
    /// It exited.
    Exited,
    /// It was killed by a signal.
    Signalled,
    /// It was ended because its time was over.
    TimedOut,
    /// The VM stopped, or its guest was reset.
    VmEnded,
    /// The guest agent does not say how it ended.
    Lost,
    /// It was ended because its caller was interrupted.
    Interrupted,
    /// It was started, and goes on without maqet.
    Detached,
}

/// A command that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExecResult {
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// The exit code: that of the command, 128 and the number of the signal that killed it, 124 after a timeout, 255 if the
    /// VM ended or the command was lost.
    pub exit_code: u8,
    /// The number of the signal that killed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
    /// What became of it.
    pub outcome: ExecOutcome,
    /// More about the outcome, where there is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The ID of a detached command in its guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detached: Option<String>,
    /// By what it was connected.
    pub via: ExecVia,
    /// What was not taken, and why.
    pub refused: Vec<ExecWayRefused>,
    /// When it was started.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// How many bytes it wrote to its standard output.
    pub stdout_bytes: u64,
    /// How many bytes it wrote to its standard error.
    pub stderr_bytes: u64,
    /// Whether some of the output was cut.
    pub truncated: bool,
    /// Its standard output, unless the caller has the streams; what is not UTF-8 is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// Its standard error, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
}

impl fmt::Debug for Exec {
    /// Without the environment and the input, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").field("vm", &self.vm).field("via", &self.via).finish_non_exhaustive()
    }
}

impl Exec {
    /// Runs `command` in the VM `vm`.
    pub fn new(vm: impl Into<String>, command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            vm: vm.into(),
            command: command.into_iter().map(Into::into).collect(),
            user: None,
            directory: None,
            environment: Vec::new(),
            input: None,
            timeout: None,
            kill_after: None,
            merge: false,
            detach: false,
            via: ExecVia::Auto,
            streams: None,
            captured: None,
        }
    }

    /// Connects the command with streams of the caller, instead of capturing its output.
    #[must_use]
    pub fn streams(self, streams: Arc<dyn ExecStreams>) -> Self {
        Self { streams: Some(streams), ..self }
    }

    /// Passes the input and the signals of these streams on to the command, whose output is captured.
    #[must_use]
    pub fn captured(self, streams: Arc<dyn ExecStreams>) -> Self {
        Self { captured: Some(streams), ..self }
    }

    /// Checks the command, and returns how it is run.
    pub(crate) fn request(&self, app: &App, has_terminal: bool) -> Result<ExecRequest, ExecError> {
        let environment = self.environment.iter().map(|text| text.parse());
        let user = self.user.as_ref().map(|user| user.parse()).transpose()?;
        if self.command.is_empty() && !has_terminal {
            return Err(ExecError::CommandRequired);
        }
        if self.detach && (has_terminal || self.input.is_some()) {
            return Err(ExecError::DetachedConflict);
        }
        if self.detach && self.via == ExecVia::Ssh {
            return Err(ExecError::WayUnsupported { via: self.via, what: "cannot be detached" });
        }
        if self.command.iter().chain(&self.directory).any(|text| text.contains('\0')) {
            return Err(ExecError::CommandInvalid);
        }
        let command = GuestCommand {
            args: self.command.clone(),
            user,
            directory: self.directory.clone(),
            environment: environment.collect::<Result<_, _>>()?,
        };
        Ok(ExecRequest {
            command,
            nonce: app.ports.ids.nonce(),
            is_merged: self.merge,
            deadline: self.timeout.map(|timeout| Instant::now() + timeout.duration()),
            kill_after: self.kill_after.map_or(limits::KILL_AFTER, HumanDuration::duration),
        })
    }

    /// Starts the command, which goes on without maqet.
    async fn start_detached(
        app: &App,
        vm: &Monitored<'_>,
        request: &ExecRequest,
        started_at: Timestamp,
        streams: &dyn ExecStreams,
    ) -> Result<(Ended, ExecVia, Vec<ExecWayRefused>), Error> {
        let commands = DetachedCommands::open(app, vm).await?;
        let end = commands.start(request, started_at, streams).await?;
        Ok((Ended::without_output(end), ExecVia::Agent, Vec::new()))
    }
}

impl Operation for Exec {
    const NAME: &'static str = "exec";
    const EFFECT: Effect = Effect::Acts;
    type Output = ExecResult;

    /// Does not lock the VM, which must be stoppable meanwhile.
    async fn run(&self, app: &App) -> Result<Done<ExecResult>, Error> {
        let captured = CapturedStreams::new(self.input.clone().map(String::into_bytes), self.captured.clone());
        let streams: &dyn ExecStreams = self.streams.as_deref().unwrap_or(&captured);
        let request = self.request(app, streams.terminal().is_some())?;
        let (began, started_at) = (Instant::now(), app.ports.clock.now());
        let vm = Monitored::find_unchecked(app, &self.vm).await?;
        let ended = if self.detach {
            Box::pin(Self::start_detached(app, &vm, &request, started_at, streams)).await
        } else {
            Box::pin(Ways { app, vm: &vm, request: &request, streams, via: self.via }.run()).await
        };
        let (ended, via, refused) = match ended {
            Ok(ended) => ended,
            Err(error) => return Err(unless_stopped(app, &vm, error).await),
        };
        let Conclusion { exit_code, signal, outcome, reason } = conclude(app, &vm, &ended.end).await;
        let output = captured.take();
        let is_captured = self.streams.is_none() && !self.detach;
        let text = |bytes: &[u8]| is_captured.then(|| String::from_utf8_lossy(bytes).into_owned());
        let result = ExecResult {
            id: vm.entry.id.to_string(),
            name: vm.entry.name.to_string(),
            exit_code,
            signal,
            outcome,
            reason,
            detached: (outcome == ExecOutcome::Detached).then(|| request.nonce.to_string()),
            via,
            refused,
            started_at,
            duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            stdout_bytes: ended.bytes[0],
            stderr_bytes: ended.bytes[1],
            truncated: ended.is_truncated || output.is_truncated,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        Ok(Done::reading(result).about(vm.entry.id))
    }
}

/// How a command ended, for its caller.
struct Conclusion {
    exit_code: u8,
    signal: Option<u8>,
    outcome: ExecOutcome,
    reason: Option<String>,
}

/// The exit code of a command that timed out.
const TIMED_OUT: u8 = 124;

/// The exit code of a command whose end is not known.
const ENDED: u8 = 255;

async fn conclude(app: &App, vm: &Monitored<'_>, end: &PumpEnd) -> Conclusion {
    let reason = async || stop_reason(app, vm.entry.id).await;
    let of = |outcome, exit: ExitStatus, reason: Option<&str>| Conclusion {
        exit_code: exit.code(),
        signal: match exit {
            ExitStatus::Signal(signal) => Some(signal),
            ExitStatus::Code(_) => None,
        },
        outcome,
        reason: reason.map(str::to_owned),
    };
    let outcome_of = |exit: ExitStatus| match exit {
        ExitStatus::Code(_) => ExecOutcome::Exited,
        ExitStatus::Signal(_) => ExecOutcome::Signalled,
    };
    match end {
        PumpEnd::Exited(exit) => of(outcome_of(*exit), *exit, None),
        PumpEnd::Detached => of(ExecOutcome::Detached, ExitStatus::Code(0), None),
        PumpEnd::TimedOut { own_exit: Some(exit) } => {
            let reason = "timed out waiting for processes that the command left, which were killed";
            of(outcome_of(*exit), *exit, Some(reason))
        }
        PumpEnd::TooLate => of(ExecOutcome::TimedOut, ExitStatus::Code(TIMED_OUT), Some("it was not started yet")),
        PumpEnd::TimedOut { own_exit: None } => of(ExecOutcome::TimedOut, ExitStatus::Code(TIMED_OUT), None),
        PumpEnd::Interrupted(exit, signal) => {
            of(ExecOutcome::Interrupted, exit.unwrap_or(ExitStatus::Signal(signal.number())), None)
        }
        PumpEnd::Closed | PumpEnd::NotStarted(_) | PumpEnd::Silent => {
            of(ExecOutcome::VmEnded, ExitStatus::Code(ENDED), Some(&ended_by(reason().await)))
        }
        PumpEnd::Halted(halted) => of(ExecOutcome::VmEnded, ExitStatus::Code(ENDED), Some(&halted.to_string())),
        PumpEnd::Lost(error) => match (reason().await, error) {
            (Some(reason), _) => of(ExecOutcome::VmEnded, ExitStatus::Code(ENDED), Some(&ended_by(Some(reason)))),
            (None, None) => of(ExecOutcome::VmEnded, ExitStatus::Code(ENDED), Some("the guest was reset")),
            (None, Some(error)) => of(ExecOutcome::Lost, ExitStatus::Code(ENDED), Some(error)),
        },
    }
}

fn ended_by(reason: Option<StopReason>) -> String {
    reason.map_or_else(|| "QEMU closed the connection".to_owned(), |reason| format!("the VM has stopped: {reason}"))
}
