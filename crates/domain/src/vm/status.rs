//! The state a VM is in: what was written down, corrected by what is seen.
//!
//! ```text
//!            start            monitor answers              stop
//! defined ─────────▶ starting ───────────────▶ running ─────────▶ stopping
//!    ▲                  │                      │     ▲               │
//!    │ rm, add          │ QEMU dies      stop/ │     │ cont          │ process gone
//!    │                  ▼                cont  ▼     │               ▼
//!    └────────────── stopped ◀──────────────── paused ───────────▶ stopped
//!                       └── start ──▶ starting
//! ```
//!
//! [`Status::of`] says which state a VM is in; [`Status::on`] says what a wish does to a VM in a
//! state. Both are exhaustive: a new state does not compile until every pair is decided.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::run::{Ending, Phase, Run, StopReason};

/// QEMU's run state, as `query-status` reports it (QAPI `RunState`, QEMU 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Waiting for a migration to come in.
    Inmigrate,
    /// QEMU found an error of its own and stands still.
    InternalError,
    /// A disk failed and the guest stands still.
    IoError,
    /// Stopped by somebody.
    Paused,
    /// Stopped after a migration went out.
    Postmigrate,
    /// Started with `-S` and never let go.
    Prelaunch,
    /// Paused for the last part of a migration.
    FinishMigrate,
    /// Stopped in the middle of loading a snapshot.
    RestoreVm,
    /// Running.
    Running,
    /// Paused for the saving of a snapshot.
    SaveVm,
    /// The guest is off and QEMU was told to stay.
    Shutdown,
    /// Suspended to RAM by the guest.
    Suspended,
    /// Stopped by its watchdog.
    Watchdog,
    /// The guest's kernel panicked.
    GuestPanicked,
    /// Paused for COLO replication.
    Colo,
    /// A state this program does not know.
    #[serde(other)]
    Unrecognised,
}

/// How the command monitor answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitorAnswer {
    /// It told the run state.
    State(RunState),
    /// It greeted and then kept silent: the main loop is blocked.
    Blocked,
    /// Nobody answered in time.
    Silent,
}

/// What QEMU wrote about its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// Why.
    pub reason: StopReason,
    /// When.
    pub at: Timestamp,
}

/// What is seen of a run right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// Its process lives.
    Alive(MonitorAnswer),
    /// Its process is gone; with the last word of the flight recorder, if there is one.
    Gone(Option<Shutdown>),
    /// It is being started by another process right now and has none of its own yet.
    Underway,
}

/// The state a VM is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Never started.
    Defined,
    /// Being started.
    Starting,
    /// Running.
    Running,
    /// Alive and standing still because somebody wanted it so.
    Paused,
    /// Alive, and its main loop does not answer: saving, loading, or stuck.
    Busy,
    /// Told to stop and not gone yet.
    Stopping,
    /// Gone.
    Stopped(Ending),
    /// Standing still half-way through loading a snapshot; never to be resumed.
    RestoreFailed,
    /// Standing still because a disk failed.
    IoError,
    /// The guest's kernel panicked.
    Panicked,
    /// Its process lives and no monitor answers.
    Unreachable,
}

/// What somebody wants of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Remove its definition.
    Remove,
    /// Change its disks while nobody uses them.
    ChangeDisks,
    /// Send it a QMP command.
    Command,
}

/// What a wish comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Do it.
    Do,
    /// It is so already; nothing to do.
    AlreadySo,
}

/// A wish that does not fit the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The state the VM is in.
    pub status: Status,
    /// What was wanted.
    pub input: Input,
}

impl Status {
    /// Returns the state of a VM from what was written down and what is seen.
    ///
    /// What is seen wins: a process that lives is never called stopped, and one that is gone is
    /// never called running.
    pub fn of(run: Option<&Run>, seen: Observation) -> Self {
        let Some(run) = run else {
            return Self::Defined;
        };
        match (run.phase, seen) {
            (Phase::Ended(ending), _) => Self::Stopped(ending),
            (_, Observation::Underway) => Self::Starting,
            (Phase::Starting | Phase::Running | Phase::Stopping, Observation::Gone(last_word)) => {
                Self::Stopped(Self::ending(run.phase, last_word))
            }
            (Phase::Stopping, Observation::Alive(MonitorAnswer::State(RunState::Running))) => Self::Stopping,
            (_, Observation::Alive(answer)) => Self::alive(answer),
        }
    }

    fn ending(phase: Phase, last_word: Option<Shutdown>) -> Ending {
        match (last_word, phase) {
            (Some(word), _) => Ending { reason: word.reason, at: Some(word.at) },
            (None, Phase::Starting) => Ending { reason: StopReason::Unknown, at: None },
            (None, Phase::Running | Phase::Stopping | Phase::Ended(_)) => {
                Ending { reason: StopReason::Crashed, at: None }
            }
        }
    }

    fn alive(answer: MonitorAnswer) -> Self {
        let state = match answer {
            MonitorAnswer::State(state) => state,
            MonitorAnswer::Blocked => return Self::Busy,
            MonitorAnswer::Silent => return Self::Unreachable,
        };
        match state {
            RunState::Running | RunState::Suspended | RunState::Colo | RunState::Unrecognised => Self::Running,
            RunState::Paused | RunState::Postmigrate | RunState::Prelaunch | RunState::Watchdog => Self::Paused,
            RunState::Inmigrate | RunState::FinishMigrate | RunState::SaveVm => Self::Busy,
            RunState::Shutdown => Self::Stopping,
            RunState::RestoreVm => Self::RestoreFailed,
            RunState::IoError | RunState::InternalError => Self::IoError,
            RunState::GuestPanicked => Self::Panicked,
        }
    }

    /// Returns whether a process of the VM lives or is about to.
    pub const fn is_live(self) -> bool {
        match self {
            Self::Defined | Self::Stopped(_) => false,
            Self::Starting
            | Self::Running
            | Self::Paused
            | Self::Busy
            | Self::Stopping
            | Self::RestoreFailed
            | Self::IoError
            | Self::Panicked
            | Self::Unreachable => true,
        }
    }

    /// Returns what `input` comes to in this state.
    pub const fn on(self, input: Input) -> Result<Step, Refused> {
        use Input as I;
        use Status as S;

        match self {
            S::Defined | S::Stopped(_) => match input {
                I::Start | I::Remove | I::ChangeDisks => Ok(Step::Do),
                I::Stop => Ok(Step::AlreadySo),
                I::Command => Err(Refused { status: self, input }),
            },
            S::Running | S::Paused => match input {
                I::Start => Ok(Step::AlreadySo),
                I::Stop | I::Command => Ok(Step::Do),
                I::Remove | I::ChangeDisks => Err(Refused { status: self, input }),
            },
            S::Starting | S::Busy | S::Stopping | S::RestoreFailed | S::IoError | S::Panicked | S::Unreachable => {
                match input {
                    I::Stop | I::Command => Ok(Step::Do),
                    I::Start | I::Remove | I::ChangeDisks => Err(Refused { status: self, input }),
                }
            }
        }
    }

    /// Returns the word scripts see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Defined => "defined",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Busy => "busy",
            Self::Stopping => "stopping",
            Self::Stopped(_) => "stopped",
            Self::RestoreFailed => "restore-failed",
            Self::IoError => "io-error",
            Self::Panicked => "panicked",
            Self::Unreachable => "unreachable",
        }
    }

    /// All words of [`Status::as_str`].
    pub const WORDS: [&'static str; 11] = [
        "defined",
        "starting",
        "running",
        "paused",
        "busy",
        "stopping",
        "stopped",
        "restore-failed",
        "io-error",
        "panicked",
        "unreachable",
    ];
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::vm::{BootNumber, RunPlaces};

    fn run(phase: Phase) -> Run {
        Run {
            boot: BootNumber(1),
            phase,
            process: None,
            started_at: Timestamp::UNIX_EPOCH,
            places: RunPlaces { sockets: PathBuf::from("/r"), records: PathBuf::from("/s") },
            forwards: Vec::new(),
        }
    }

    const STOPPED: Status = Status::Stopped(Ending { reason: StopReason::GuestShutdown, at: None });

    #[track_caller]
    fn check(phase: Phase, seen: Observation, expected: &str) {
        let status = Status::of(Some(&run(phase)), seen);

        assert_eq!(status.as_str(), expected, "{phase:?} {seen:?}");
    }

    #[test]
    fn test_status_never_started_is_defined() {
        assert_eq!(Status::of(None, Observation::Gone(None)), Status::Defined);
    }

    #[test]
    fn test_status_process_gone_is_never_running() {
        for phase in [Phase::Starting, Phase::Running, Phase::Stopping] {
            check(phase, Observation::Gone(None), "stopped");
        }
    }

    #[test]
    fn test_status_killed_without_a_word_is_crashed() {
        let status = Status::of(Some(&run(Phase::Running)), Observation::Gone(None));

        assert_eq!(status, Status::Stopped(Ending { reason: StopReason::Crashed, at: None }));
    }

    #[test]
    fn test_status_last_word_of_the_recorder_gives_reason_and_time() {
        let word = Shutdown { reason: StopReason::GuestShutdown, at: Timestamp::UNIX_EPOCH };

        let status = Status::of(Some(&run(Phase::Running)), Observation::Gone(Some(word)));

        assert_eq!(
            status,
            Status::Stopped(Ending { reason: StopReason::GuestShutdown, at: Some(Timestamp::UNIX_EPOCH) })
        );
    }

    #[test]
    fn test_status_alive_follows_the_monitor() {
        let alive = |state| Observation::Alive(MonitorAnswer::State(state));
        check(Phase::Running, alive(RunState::Running), "running");
        check(Phase::Starting, alive(RunState::Prelaunch), "paused");
        check(Phase::Running, alive(RunState::RestoreVm), "restore-failed");
        check(Phase::Running, alive(RunState::GuestPanicked), "panicked");
        check(Phase::Running, Observation::Alive(MonitorAnswer::Blocked), "busy");
        check(Phase::Running, Observation::Alive(MonitorAnswer::Silent), "unreachable");
        check(Phase::Stopping, alive(RunState::Running), "stopping");
    }

    #[test]
    fn test_start_running_vm_changes_nothing() {
        assert_eq!(Status::Running.on(Input::Start), Ok(Step::AlreadySo));
    }

    #[test]
    fn test_stop_stopped_vm_changes_nothing() {
        assert_eq!(STOPPED.on(Input::Stop), Ok(Step::AlreadySo));
    }

    #[test]
    fn test_remove_running_vm_is_refused() {
        assert!(Status::Running.on(Input::Remove).is_err());
        assert!(Status::Unreachable.on(Input::Remove).is_err());
    }

    #[test]
    fn test_stop_every_live_state_is_possible() {
        for status in [
            Status::Starting,
            Status::Running,
            Status::Paused,
            Status::Busy,
            Status::Stopping,
            Status::RestoreFailed,
            Status::IoError,
            Status::Panicked,
            Status::Unreachable,
        ] {
            assert!(status.is_live());
            assert_eq!(status.on(Input::Stop), Ok(Step::Do), "{status:?}");
        }
    }

    #[test]
    fn test_run_state_unknown_word_is_read_as_unrecognised() {
        let state: RunState = serde_json::from_str("\"brand-new\"").unwrap();

        assert_eq!(state, RunState::Unrecognised);
    }
}
