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

use crate::qmp::RunState;
use jiff::Timestamp;

use super::run::{Ending, Phase, Run, StopReason};

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

/// What is seen of a run's process right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessObservation {
    /// It lives, and its monitor answered so.
    Answered(MonitorAnswer),
    /// It lives, and its monitor was not asked.
    Lives,
    /// It lives, was started a moment ago, and its monitor does not answer yet.
    ComingUp,
    /// It is gone.
    Gone {
        /// The last word of the flight recorder, if there is one.
        shutdown_event: Option<Shutdown>,
        /// Whether the host was booted since it was started.
        host_rebooted: bool,
    },
}

impl ProcessObservation {
    /// A process that is gone without a word, on a host that runs on.
    pub const GONE: Self = Self::Gone { shutdown_event: None, host_rebooted: false };
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
    /// Somebody works on it, or it is alive and its main loop does not answer: saving, loading, or stuck.
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
    /// A QEMU of ours whose VM nobody knows any more.
    Orphaned,
}

/// What somebody wants of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Remove its definition.
    Remove,
    /// Change its disks while nobody uses them.
    ChangeDisks,
    /// Talk to it, over a monitor or its console.
    Command,
    /// Have it stand still.
    Pause,
    /// Have it go on.
    Resume,
    /// Press its reset button.
    Reset,
}

/// What a wish comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Do it.
    Proceed,
    /// It is so already; nothing to do.
    NoOp,
}

/// A wish that does not fit the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidTransition {
    /// The state the VM is in.
    pub status: Status,
    /// What was wanted.
    pub action: Action,
}

impl Status {
    /// Returns the state of a VM from what was written down and what is seen; `is_worked_on` says whether an operation
    /// holds its lock, the caller's own not counted.
    ///
    /// What is seen wins: a process that lives is never called stopped, and one that is gone is never called running.
    /// A start or a stop that nobody works on any more was given up, and counts for nothing.
    pub fn from_run(run: Option<&Run>, seen: ProcessObservation, is_worked_on: bool) -> Self {
        match (run.map(|run| run.phase), seen, is_worked_on) {
            (None, _, false) => Self::Defined,
            (Some(Phase::Ended(ending)), _, false) => Self::Stopped(ending),
            (None | Some(Phase::Ended(_)), _, true) => Self::Busy,
            (
                Some(Phase::Stopping),
                ProcessObservation::Answered(_) | ProcessObservation::Lives | ProcessObservation::ComingUp,
                true,
            ) => Self::Stopping,
            (Some(Phase::Starting), _, true) | (Some(_), ProcessObservation::ComingUp, _) => Self::Starting,
            (Some(phase), ProcessObservation::Gone { shutdown_event, host_rebooted }, _) => {
                Self::Stopped(Self::ending(phase, shutdown_event, host_rebooted))
            }
            (Some(Phase::Starting | Phase::Running | Phase::Stopping), ProcessObservation::Answered(answer), _) => {
                Self::alive(answer)
            }
            (Some(Phase::Starting | Phase::Running | Phase::Stopping), ProcessObservation::Lives, _) => Self::Running,
        }
    }

    fn ending(phase: Phase, shutdown_event: Option<Shutdown>, host_rebooted: bool) -> Ending {
        if let Some(word) = shutdown_event {
            return Ending { reason: word.reason, at: Some(word.at) };
        }
        let reason = match phase {
            _ if host_rebooted => StopReason::HostReboot,
            Phase::Starting => StopReason::Unknown,
            Phase::Running | Phase::Stopping | Phase::Ended(_) => StopReason::Crashed,
        };
        Ending { reason, at: None }
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
            | Self::Unreachable
            | Self::Orphaned => true,
        }
    }

    /// Returns what `action` comes to in this state.
    ///
    /// A machine that stopped half-way through loading a snapshot is never let go on: QEMU would take `cont`, and run
    /// a guest that is half one and half another (7.2).
    pub const fn on(self, action: Action) -> Result<Transition, InvalidTransition> {
        use Action as I;
        use Status as S;

        let refused = Err(InvalidTransition { status: self, action });
        match self {
            S::Defined | S::Stopped(_) => match action {
                I::Start | I::Remove | I::ChangeDisks => Ok(Transition::Proceed),
                I::Stop => Ok(Transition::NoOp),
                I::Command | I::Pause | I::Resume | I::Reset => refused,
            },
            S::Running => match action {
                I::Start | I::Resume => Ok(Transition::NoOp),
                I::Stop | I::Command | I::Pause | I::Reset => Ok(Transition::Proceed),
                I::Remove | I::ChangeDisks => refused,
            },
            S::Paused => match action {
                I::Start | I::Pause => Ok(Transition::NoOp),
                I::Stop | I::Command | I::Resume | I::Reset => Ok(Transition::Proceed),
                I::Remove | I::ChangeDisks => refused,
            },
            S::IoError => match action {
                I::Stop | I::Command | I::Resume | I::Reset => Ok(Transition::Proceed),
                I::Start | I::Remove | I::ChangeDisks | I::Pause => refused,
            },
            S::Panicked => match action {
                I::Stop | I::Command | I::Reset => Ok(Transition::Proceed),
                I::Start | I::Remove | I::ChangeDisks | I::Pause | I::Resume => refused,
            },
            S::Starting | S::Busy | S::Stopping | S::RestoreFailed | S::Unreachable => match action {
                I::Stop | I::Command => Ok(Transition::Proceed),
                I::Start | I::Remove | I::ChangeDisks | I::Pause | I::Resume | I::Reset => refused,
            },
            S::Orphaned => match action {
                I::Stop => Ok(Transition::Proceed),
                I::Start | I::Remove | I::ChangeDisks | I::Command | I::Pause | I::Resume | I::Reset => refused,
            },
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
            Self::Orphaned => "orphaned",
        }
    }

    /// All words of [`Status::as_str`].
    pub const WORDS: [&'static str; 12] = [
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
        "orphaned",
    ];
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::vm::{BootNumber, RunPaths};

    fn run(phase: Phase) -> Run {
        Run {
            boot: BootNumber(1),
            phase,
            process: None,
            started_at: Timestamp::UNIX_EPOCH,
            paths: RunPaths { sockets: PathBuf::from("/r"), records: PathBuf::from("/s") },
            forwards: Vec::new(),
        }
    }

    const STOPPED: Status = Status::Stopped(Ending { reason: StopReason::GuestShutdown, at: None });

    const PHASES: [Phase; 3] = [Phase::Starting, Phase::Running, Phase::Stopping];

    const fn answered(state: RunState) -> ProcessObservation {
        ProcessObservation::Answered(MonitorAnswer::State(state))
    }

    /// What nobody works on.
    #[track_caller]
    fn check(phase: Phase, seen: ProcessObservation, expected: &str) {
        let status = Status::from_run(Some(&run(phase)), seen, false);

        assert_eq!(status.as_str(), expected, "{phase:?} {seen:?}");
    }

    #[test]
    fn test_status_never_started_is_defined() {
        assert_eq!(Status::from_run(None, ProcessObservation::GONE, false), Status::Defined);
    }

    #[test]
    fn test_status_worked_on_without_a_process_is_busy() {
        let ended = run(Phase::Ended(Ending { reason: StopReason::HostQuit, at: None }));

        assert_eq!(Status::from_run(None, ProcessObservation::GONE, true), Status::Busy);
        assert_eq!(Status::from_run(Some(&ended), ProcessObservation::GONE, true), Status::Busy);
    }

    #[test]
    fn test_status_start_or_stop_underway_is_told_from_one_given_up() {
        let (starting, stopping) = (run(Phase::Starting), run(Phase::Stopping));
        let begun = [ProcessObservation::GONE, ProcessObservation::Lives]
            .map(|seen| Status::from_run(Some(&starting), seen, true));
        assert_eq!(begun, [Status::Starting; 2]);
        assert_eq!(Status::from_run(Some(&stopping), ProcessObservation::Lives, true), Status::Stopping);
        assert_eq!(Status::from_run(Some(&starting), ProcessObservation::ComingUp, false), Status::Starting);
        let given_up =
            [&starting, &stopping].map(|run| Status::from_run(Some(run), answered(RunState::Running), false));
        assert_eq!(given_up, [Status::Running; 2]);
    }

    #[test]
    fn test_status_process_gone_is_never_running() {
        for (phase, is_worked_on) in PHASES.into_iter().flat_map(|phase| [(phase, false), (phase, true)]) {
            let status = Status::from_run(Some(&run(phase)), ProcessObservation::GONE, is_worked_on);

            assert!(matches!(status, Status::Stopped(_) | Status::Starting), "{phase:?} {is_worked_on}: {status:?}");
            assert_eq!(status == Status::Starting, is_worked_on && phase == Phase::Starting, "{phase:?}");
        }
    }

    #[test]
    fn test_status_process_alive_is_never_stopped() {
        let sights = [
            ProcessObservation::Lives,
            ProcessObservation::Answered(MonitorAnswer::Blocked),
            ProcessObservation::Answered(MonitorAnswer::Silent),
        ];
        for (phase, seen) in PHASES.into_iter().flat_map(|phase| sights.map(|seen| (phase, seen))) {
            for is_worked_on in [false, true] {
                assert!(Status::from_run(Some(&run(phase)), seen, is_worked_on).is_live(), "{phase:?} {seen:?}");
            }
        }
    }

    #[track_caller]
    fn check_ending(phase: Phase, seen: ProcessObservation, reason: StopReason, at: Option<Timestamp>) {
        let status = Status::from_run(Some(&run(phase)), seen, false);

        assert_eq!(status, Status::Stopped(Ending { reason, at }), "{phase:?} {seen:?}");
    }

    #[test]
    fn test_status_killed_without_a_word_is_crashed() {
        check_ending(Phase::Running, ProcessObservation::GONE, StopReason::Crashed, None);
        check_ending(Phase::Stopping, ProcessObservation::GONE, StopReason::Crashed, None);
        check_ending(Phase::Starting, ProcessObservation::GONE, StopReason::Unknown, None);
    }

    #[test]
    fn test_status_gone_with_the_boot_of_its_host_says_so() {
        let seen = ProcessObservation::Gone { shutdown_event: None, host_rebooted: true };

        for phase in PHASES {
            check_ending(phase, seen, StopReason::HostReboot, None);
        }
    }

    #[test]
    fn test_status_last_word_of_the_recorder_gives_reason_and_time() {
        let at = Timestamp::UNIX_EPOCH;
        let shutdown_event = Some(Shutdown { reason: StopReason::GuestShutdown, at });

        for host_rebooted in [false, true] {
            let seen = ProcessObservation::Gone { shutdown_event, host_rebooted };
            check_ending(Phase::Running, seen, StopReason::GuestShutdown, Some(at));
        }
    }

    #[test]
    fn test_status_alive_follows_the_monitor() {
        check(Phase::Running, answered(RunState::Running), "running");
        check(Phase::Starting, answered(RunState::Prelaunch), "paused");
        check(Phase::Running, answered(RunState::RestoreVm), "restore-failed");
        check(Phase::Running, answered(RunState::GuestPanicked), "panicked");
        check(Phase::Running, ProcessObservation::Answered(MonitorAnswer::Blocked), "busy");
        check(Phase::Running, ProcessObservation::Answered(MonitorAnswer::Silent), "unreachable");
        check(Phase::Running, ProcessObservation::Lives, "running");
    }

    /// The table of docs/reference/states.md: what each wish comes to, `+` do it, `=` nothing to do, `-` refused.
    #[test]
    fn test_inputs_come_to_what_the_table_says_in_every_state() {
        use Action as I;
        let inputs = [I::Start, I::Stop, I::Remove, I::ChangeDisks, I::Command, I::Pause, I::Resume, I::Reset];
        for (status, expected) in [
            (Status::Defined, "+=++----"),
            (STOPPED, "+=++----"),
            (Status::Running, "=+--++=+"),
            (Status::Paused, "=+--+=++"),
            (Status::IoError, "-+--+-++"),
            (Status::Panicked, "-+--+--+"),
            (Status::Starting, "-+--+---"),
            (Status::Busy, "-+--+---"),
            (Status::Stopping, "-+--+---"),
            (Status::RestoreFailed, "-+--+---"),
            (Status::Unreachable, "-+--+---"),
            (Status::Orphaned, "-+------"),
        ] {
            let told = inputs.map(|action| match status.on(action) {
                Ok(Transition::Proceed) => '+',
                Ok(Transition::NoOp) => '=',
                Err(refused) => {
                    assert_eq!(refused, InvalidTransition { status, action });
                    '-'
                }
            });

            assert_eq!(String::from_iter(told), expected, "{status:?}");
        }
    }

    #[test]
    fn test_words_are_those_of_the_states() {
        let states = [
            Status::Defined,
            Status::Starting,
            Status::Running,
            Status::Paused,
            Status::Busy,
            Status::Stopping,
            STOPPED,
            Status::RestoreFailed,
            Status::IoError,
            Status::Panicked,
            Status::Unreachable,
            Status::Orphaned,
        ];

        assert_eq!(states.map(Status::as_str), Status::WORDS);
    }

    #[test]
    fn test_run_state_unknown_word_is_read_as_unrecognised() {
        let state: RunState = serde_json::from_str("\"brand-new\"").unwrap();

        assert_eq!(state, RunState::Unrecognised);
    }
}
