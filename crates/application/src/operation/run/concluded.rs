//! How a run ended, before its VM is removed.

use maqet_domain::error::Explain;
use maqet_domain::guest::ProcessSignal;

use super::super::guest::{ExecOutcome, ExecResult};
use super::RunOutcome;
use crate::Error;

/// The exit code where the command was not started.
const NOT_STARTED: u8 = 125;

/// The end of a run before its time.
pub(super) enum Stop {
    /// Something failed.
    Failed(Box<Error>),
    /// The caller was interrupted.
    Interrupted(ProcessSignal),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// How a run ended.
pub(super) struct Concluded {
    pub(super) exit_code: u8,
    pub(super) signal: Option<u8>,
    pub(super) outcome: RunOutcome,
    pub(super) reason: Option<String>,
    pub(super) error: Option<Box<Error>>,
    pub(super) command: Option<ExecResult>,
    /// Whether a signal came after the command.
    pub(super) is_cut_short: bool,
}

impl Concluded {
    fn new(outcome: RunOutcome, exit_code: u8) -> Self {
        Self { exit_code, signal: None, outcome, reason: None, error: None, command: None, is_cut_short: false }
    }

    /// Returns how a run ended whose command was not started.
    pub(super) fn before_command(stop: Stop) -> Self {
        match stop {
            Stop::Failed(error) => Self { error: Some(error), ..Self::new(RunOutcome::NotStarted, NOT_STARTED) },
            Stop::Interrupted(signal) => Self::new(RunOutcome::Interrupted, code_of(signal)),
        }
    }

    /// Returns how a run ended whose command was not started, or had to be left.
    pub(super) fn under_command(stop: Stop) -> Self {
        match stop {
            Stop::Failed(error) => {
                let exit_code = match error.code() {
                    "guest.program-not-found" => 127,
                    "guest.program-invalid" => 126,
                    _ => NOT_STARTED,
                };
                Self { exit_code, ..Self::before_command(Stop::Failed(error)) }
            }
            stop @ Stop::Interrupted(_) => {
                let reason = Some("the command did not end".to_owned());
                Self { reason, ..Self::before_command(stop) }
            }
        }
    }

    /// Returns the interruption of a command that prepares the guest, if it was interrupted.
    pub(super) fn interrupted(result: &ExecResult) -> Option<Stop> {
        let signal = result.signal.and_then(ProcessSignal::from_number).unwrap_or(ProcessSignal::Term);
        (result.outcome == ExecOutcome::Interrupted).then_some(Stop::Interrupted(signal))
    }

    /// Adds that something could not be collected, which is no success, but leaves the verdict of a command that failed.
    pub(super) fn without_collection(self, stop: Stop) -> Self {
        match stop {
            Stop::Failed(error) => {
                let exit_code = if self.exit_code == 0 { NOT_STARTED } else { self.exit_code };
                Self { exit_code, error: Some(error), ..self }
            }
            Stop::Interrupted(signal) if self.exit_code == 0 => {
                let reason = Some("interrupted before everything was collected".to_owned());
                Self { exit_code: code_of(signal), outcome: RunOutcome::Interrupted, reason, ..self }
            }
            Stop::Interrupted(_) => Self { is_cut_short: true, ..self },
        }
    }

    /// Has an interrupted command that exited with 0 be no success: what it was to do may not be done.
    pub(super) fn by_signal(self, signal: ProcessSignal) -> Self {
        let is_success = self.outcome == RunOutcome::Interrupted && self.exit_code == 0;
        if is_success { Self { exit_code: code_of(signal), ..self } } else { self }
    }

    /// Returns whether the VM ended under the command.
    pub(super) fn has_vm_ended(&self) -> bool {
        self.outcome == RunOutcome::VmEnded
    }

    /// Returns whether what the command said is known.
    pub(super) fn is_verdict(&self) -> bool {
        self.outcome.is_verdict() && self.error.is_none()
    }
}

impl From<ExecResult> for Concluded {
    fn from(result: ExecResult) -> Self {
        let outcome = match result.outcome {
            ExecOutcome::Exited => RunOutcome::Exited,
            ExecOutcome::Signalled => RunOutcome::Signalled,
            ExecOutcome::TimedOut => RunOutcome::TimedOut,
            ExecOutcome::VmEnded => RunOutcome::VmEnded,
            // None of `run` is detached.
            ExecOutcome::Lost | ExecOutcome::Detached => RunOutcome::Lost,
            ExecOutcome::Interrupted => RunOutcome::Interrupted,
        };
        Self {
            signal: result.signal,
            reason: result.reason.clone(),
            command: Some(result.clone()),
            ..Self::new(outcome, result.exit_code)
        }
    }
}

/// Returns the exit code of a process that a signal ended, as shells report it.
fn code_of(signal: ProcessSignal) -> u8 {
    128 | signal.number()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Stop {
        Error::ConfigRequired.into()
    }

    #[test]
    fn test_run_whose_command_was_not_started_is_no_verdict() {
        let failed = Concluded::before_command(failed());
        let interrupted = Concluded::before_command(Stop::Interrupted(ProcessSignal::Term));

        assert_eq!((failed.exit_code, failed.outcome, failed.is_verdict()), (125, RunOutcome::NotStarted, false));
        assert_eq!((interrupted.exit_code, interrupted.outcome), (143, RunOutcome::Interrupted));
        assert!(failed.error.is_some() && interrupted.error.is_none());
    }

    #[test]
    fn test_failed_collection_turns_a_success_only() {
        let exited = |code| Concluded::new(RunOutcome::Exited, code);

        let codes = [0, 3].map(|code| exited(code).without_collection(failed()).exit_code);
        let interrupted = [0, 3].map(|code| {
            let concluded = exited(code).without_collection(Stop::Interrupted(ProcessSignal::Int));
            (concluded.exit_code, concluded.outcome, concluded.is_cut_short)
        });

        assert_eq!(codes, [125, 3]);
        let by_signal = [(RunOutcome::Interrupted, 0), (RunOutcome::Interrupted, 5), (RunOutcome::Exited, 0)]
            .map(|(outcome, code)| Concluded::new(outcome, code).by_signal(ProcessSignal::Term).exit_code);

        assert_eq!(by_signal, [143, 5, 0]);
        assert_eq!(interrupted, [(130, RunOutcome::Interrupted, false), (3, RunOutcome::Exited, true)]);
    }
}
