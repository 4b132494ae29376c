//! The state of a VM: what is stored about its last run, corrected by what is observed.
//!
//! ```text
//!            start            monitor answers              stop
//! defined ─────────▶ starting ───────────────▶ running ─────────▶ stopping
//!    ▲                  │                      │     ▲               │
//!    │ rm, add          │ QEMU exits     stop/ │     │ cont          │ process exits
//!    │                  ▼                cont  ▼     │               ▼
//!    └────────────── stopped ◀──────────────── paused ───────────▶ stopped
//!                       └── start ──▶ starting
//! ```
//!
//! [`Status::from_run`] computes the state; [`Status::transition`] decides what an action does in it. Both are
//! exhaustive: a new state or action does not compile until every combination is decided.

use std::fmt;

use strum::{IntoStaticStr, VariantNames};

use super::run::{Phase, Run, RunEnd};
use crate::qmp::RunState;

/// The response of the command monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitorAnswer {
    /// It reported the run state.
    State(RunState),
    /// It greeted, but did not answer: the main loop is blocked.
    Blocked,
    /// It did not respond in time.
    TimedOut,
}

/// What is observed of a run's process at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessObservation {
    /// It runs, and its monitor was asked.
    Answered(MonitorAnswer),
    /// It runs, and its monitor was not asked.
    Alive,
    /// It runs, was started a moment ago, and its monitor does not respond yet.
    StartingUp,
    /// It has exited.
    Exited {
        /// How it ended, if its traces say so.
        reported: Option<RunEnd>,
        /// Whether the host was rebooted since it was started.
        host_rebooted: bool,
    },
}

impl ProcessObservation {
    /// A process that exited without giving a reason, on a host that was not rebooted.
    pub const EXITED: Self = Self::Exited { reported: None, host_rebooted: false };
}

/// The state of a VM; its name, as in `restore-failed`, is what scripts see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum Status {
    /// Never started.
    Defined,
    /// A start is in progress.
    Starting,
    /// The guest runs.
    Running,
    /// The guest is paused: by QMP `stop`, `-S`, a watchdog or an outgoing migration.
    Paused,
    /// The guest suspended itself to RAM; it runs again once it is woken.
    Suspended,
    /// An operation holds the lock, or QEMU's main loop is occupied: saving, loading, or blocked.
    Busy,
    /// A stop is in progress.
    Stopping,
    /// The process has exited.
    Stopped(RunEnd),
    /// Loading a snapshot was interrupted; the guest must not be resumed.
    RestoreFailed,
    /// The guest is paused because of an I/O error.
    IoError,
    /// The guest's kernel panicked.
    Panicked,
    /// The process runs, but no monitor responds.
    Unreachable,
    /// A QEMU process whose VM is not in the store.
    Orphaned,
}

/// A requested action on a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Start it.
    Start,
    /// Stop it.
    Stop,
    /// Remove its definition.
    Remove,
    /// Change its disk images while QEMU is not running.
    ChangeDisks,
    /// Use a monitor or the console.
    Command,
    /// Pause the guest.
    Pause,
    /// Resume the guest.
    Resume,
    /// Reset the guest.
    Reset,
}

/// What an action does in a state that allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Carry out the action.
    Proceed,
    /// Nothing: the VM is in the requested state already.
    NoOp,
}

/// An action that the state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidTransition {
    /// The state of the VM.
    pub status: Status,
    /// The action.
    pub action: Action,
}

impl Status {
    /// The names of all states.
    pub const NAMES: &'static [&'static str] = Self::VARIANTS;

    /// Computes the state of a VM from its stored run and an observation of its process.
    ///
    /// `is_locked` is whether another operation holds the lock of the VM. The observation wins: a running process is
    /// never `stopped`, and one that exited is never `running`. A start or stop that no operation works on was
    /// interrupted and is ignored.
    pub fn from_run(run: Option<&Run>, observation: ProcessObservation, is_locked: bool) -> Self {
        use ProcessObservation::{Alive, Answered, Exited, StartingUp};

        match (run.map(|run| run.phase), observation, is_locked) {
            (None, _, false) => Self::Defined,
            (Some(Phase::Ended(end)), _, false) => Self::Stopped(end),
            (None | Some(Phase::Ended(_)), _, true) => Self::Busy,
            (Some(Phase::Stopping), Answered(_) | Alive | StartingUp, true) => Self::Stopping,
            (Some(Phase::Starting), _, true) | (Some(_), StartingUp, _) => Self::Starting,
            (Some(phase), Exited { reported, host_rebooted }, _) => {
                Self::Stopped(RunEnd::from_exit(phase, reported, host_rebooted))
            }
            (Some(Phase::Starting | Phase::Running | Phase::Stopping), Answered(answer), _) => Self::alive(answer),
            (Some(Phase::Starting | Phase::Running | Phase::Stopping), Alive, _) => Self::Running,
        }
    }

    fn alive(answer: MonitorAnswer) -> Self {
        let state = match answer {
            MonitorAnswer::State(state) => state,
            MonitorAnswer::Blocked => return Self::Busy,
            MonitorAnswer::TimedOut => return Self::Unreachable,
        };
        match state {
            RunState::Running | RunState::Colo | RunState::Unrecognised => Self::Running,
            RunState::Suspended => Self::Suspended,
            RunState::Paused | RunState::Postmigrate | RunState::Prelaunch | RunState::Watchdog => Self::Paused,
            RunState::Inmigrate | RunState::FinishMigrate | RunState::SaveVm => Self::Busy,
            RunState::Shutdown => Self::Stopping,
            RunState::RestoreVm => Self::RestoreFailed,
            RunState::IoError | RunState::InternalError => Self::IoError,
            RunState::GuestPanicked => Self::Panicked,
        }
    }

    /// Returns whether a process of the VM runs, or is about to.
    pub const fn is_live(self) -> bool {
        match self {
            Self::Defined | Self::Stopped(_) => false,
            Self::Starting
            | Self::Running
            | Self::Paused
            | Self::Suspended
            | Self::Busy
            | Self::Stopping
            | Self::RestoreFailed
            | Self::IoError
            | Self::Panicked
            | Self::Unreachable
            | Self::Orphaned => true,
        }
    }

    /// Returns what `action` does to a VM in this state.
    ///
    /// A guest whose snapshot was loaded partially is never resumed: QEMU would accept `cont` and run a mixture of two
    /// guests (7.2).
    pub const fn transition(self, action: Action) -> Result<Transition, InvalidTransition> {
        use Action as A;
        use Status as S;

        let invalid = Err(InvalidTransition { status: self, action });
        match self {
            S::Defined | S::Stopped(_) => match action {
                A::Start | A::Remove | A::ChangeDisks => Ok(Transition::Proceed),
                A::Stop => Ok(Transition::NoOp),
                A::Command | A::Pause | A::Resume | A::Reset => invalid,
            },
            S::Running => match action {
                A::Start | A::Resume => Ok(Transition::NoOp),
                A::Stop | A::Command | A::Pause | A::Reset => Ok(Transition::Proceed),
                A::Remove | A::ChangeDisks => invalid,
            },
            S::Paused => match action {
                A::Start | A::Pause => Ok(Transition::NoOp),
                A::Stop | A::Command | A::Resume | A::Reset => Ok(Transition::Proceed),
                A::Remove | A::ChangeDisks => invalid,
            },
            S::Suspended => match action {
                A::Start => Ok(Transition::NoOp),
                A::Stop | A::Command | A::Resume | A::Reset => Ok(Transition::Proceed),
                A::Remove | A::ChangeDisks | A::Pause => invalid,
            },
            S::IoError => match action {
                A::Stop | A::Command | A::Resume | A::Reset => Ok(Transition::Proceed),
                A::Start | A::Remove | A::ChangeDisks | A::Pause => invalid,
            },
            S::Panicked => match action {
                A::Stop | A::Command | A::Reset => Ok(Transition::Proceed),
                A::Start | A::Remove | A::ChangeDisks | A::Pause | A::Resume => invalid,
            },
            S::Starting | S::Busy | S::Stopping | S::RestoreFailed | S::Unreachable => match action {
                A::Stop | A::Command => Ok(Transition::Proceed),
                A::Start | A::Remove | A::ChangeDisks | A::Pause | A::Resume | A::Reset => invalid,
            },
            S::Orphaned => match action {
                A::Stop => Ok(Transition::Proceed),
                A::Start | A::Remove | A::ChangeDisks | A::Command | A::Pause | A::Resume | A::Reset => invalid,
            },
        }
    }

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What cannot be done, as in "cannot change disks".
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Remove => "remove",
            Self::ChangeDisks => "change disks",
            Self::Command => "connect",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Reset => "reset",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use jiff::Timestamp;

    use super::*;
    use crate::vm::{BootNumber, RunPaths, StopReason};

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

    const STOPPED: Status = Status::Stopped(RunEnd { reason: StopReason::GuestShutdown, at: None });

    const PHASES: [Phase; 3] = [Phase::Starting, Phase::Running, Phase::Stopping];

    const fn answered(state: RunState) -> ProcessObservation {
        ProcessObservation::Answered(MonitorAnswer::State(state))
    }

    /// Checks the state of a VM that no operation works on.
    #[track_caller]
    fn check(phase: Phase, observation: ProcessObservation, expected: &str) {
        let status = Status::from_run(Some(&run(phase)), observation, false);

        assert_eq!(status.as_str(), expected, "{phase:?} {observation:?}");
    }

    #[test]
    fn test_status_never_started_is_defined() {
        assert_eq!(Status::from_run(None, ProcessObservation::EXITED, false), Status::Defined);
    }

    #[test]
    fn test_status_locked_without_a_process_is_busy() {
        let ended = run(Phase::Ended(RunEnd { reason: StopReason::HostQuit, at: None }));

        assert_eq!(Status::from_run(None, ProcessObservation::EXITED, true), Status::Busy);
        assert_eq!(Status::from_run(Some(&ended), ProcessObservation::EXITED, true), Status::Busy);
    }

    #[test]
    fn test_status_interrupted_start_or_stop_is_ignored() {
        let (starting, stopping) = (run(Phase::Starting), run(Phase::Stopping));
        let in_progress = [ProcessObservation::EXITED, ProcessObservation::Alive]
            .map(|observation| Status::from_run(Some(&starting), observation, true));
        assert_eq!(in_progress, [Status::Starting; 2]);
        assert_eq!(Status::from_run(Some(&stopping), ProcessObservation::Alive, true), Status::Stopping);
        assert_eq!(Status::from_run(Some(&starting), ProcessObservation::StartingUp, false), Status::Starting);
        let interrupted =
            [&starting, &stopping].map(|run| Status::from_run(Some(run), answered(RunState::Running), false));
        assert_eq!(interrupted, [Status::Running; 2]);
    }

    #[test]
    fn test_status_exited_process_is_never_running() {
        for (phase, is_locked) in PHASES.into_iter().flat_map(|phase| [(phase, false), (phase, true)]) {
            let status = Status::from_run(Some(&run(phase)), ProcessObservation::EXITED, is_locked);

            assert!(matches!(status, Status::Stopped(_) | Status::Starting), "{phase:?} {is_locked}: {status:?}");
            assert_eq!(status == Status::Starting, is_locked && phase == Phase::Starting, "{phase:?}");
        }
    }

    #[test]
    fn test_status_running_process_is_never_stopped() {
        let observations = [
            ProcessObservation::Alive,
            ProcessObservation::Answered(MonitorAnswer::Blocked),
            ProcessObservation::Answered(MonitorAnswer::TimedOut),
        ];
        for (phase, observation) in PHASES.into_iter().flat_map(|phase| observations.map(|one| (phase, one))) {
            for is_locked in [false, true] {
                assert!(
                    Status::from_run(Some(&run(phase)), observation, is_locked).is_live(),
                    "{phase:?} {observation:?}"
                );
            }
        }
    }

    #[track_caller]
    fn check_end(phase: Phase, observation: ProcessObservation, reason: StopReason, at: Option<Timestamp>) {
        let status = Status::from_run(Some(&run(phase)), observation, false);

        assert_eq!(status, Status::Stopped(RunEnd { reason, at }), "{phase:?} {observation:?}");
    }

    #[test]
    fn test_status_exit_without_an_event_is_crashed() {
        check_end(Phase::Running, ProcessObservation::EXITED, StopReason::Crashed, None);
        check_end(Phase::Stopping, ProcessObservation::EXITED, StopReason::Crashed, None);
        check_end(Phase::Starting, ProcessObservation::EXITED, StopReason::Unknown, None);
    }

    #[test]
    fn test_status_exit_before_a_reboot_is_host_reboot() {
        let observation = ProcessObservation::Exited { reported: None, host_rebooted: true };

        for phase in PHASES {
            check_end(phase, observation, StopReason::HostReboot, None);
        }
    }

    #[test]
    fn test_status_reported_end_gives_reason_and_time() {
        let at = Timestamp::UNIX_EPOCH;
        let reported = Some(RunEnd { reason: StopReason::GuestShutdown, at: Some(at) });

        for host_rebooted in [false, true] {
            let observation = ProcessObservation::Exited { reported, host_rebooted };
            check_end(Phase::Running, observation, StopReason::GuestShutdown, Some(at));
        }
    }

    #[test]
    fn test_status_of_a_running_process_follows_the_monitor() {
        check(Phase::Running, answered(RunState::Running), "running");
        check(Phase::Starting, answered(RunState::Prelaunch), "paused");
        check(Phase::Running, answered(RunState::Suspended), "suspended");
        check(Phase::Running, answered(RunState::RestoreVm), "restore-failed");
        check(Phase::Running, answered(RunState::GuestPanicked), "panicked");
        check(Phase::Running, ProcessObservation::Answered(MonitorAnswer::Blocked), "busy");
        check(Phase::Running, ProcessObservation::Answered(MonitorAnswer::TimedOut), "unreachable");
        check(Phase::Running, ProcessObservation::Alive, "running");
    }

    /// The table of docs/reference/states.md: `+` proceeds, `=` is a no-op, `-` is invalid.
    #[test]
    fn test_transition_matches_the_table_in_every_state() {
        use Action as A;
        let actions = [A::Start, A::Stop, A::Remove, A::ChangeDisks, A::Command, A::Pause, A::Resume, A::Reset];
        for (status, expected) in [
            (Status::Defined, "+=++----"),
            (STOPPED, "+=++----"),
            (Status::Running, "=+--++=+"),
            (Status::Paused, "=+--+=++"),
            (Status::Suspended, "=+--+-++"),
            (Status::IoError, "-+--+-++"),
            (Status::Panicked, "-+--+--+"),
            (Status::Starting, "-+--+---"),
            (Status::Busy, "-+--+---"),
            (Status::Stopping, "-+--+---"),
            (Status::RestoreFailed, "-+--+---"),
            (Status::Unreachable, "-+--+---"),
            (Status::Orphaned, "-+------"),
        ] {
            let found = actions.map(|action| match status.transition(action) {
                Ok(Transition::Proceed) => '+',
                Ok(Transition::NoOp) => '=',
                Err(invalid) => {
                    assert_eq!(invalid, InvalidTransition { status, action });
                    '-'
                }
            });

            assert_eq!(String::from_iter(found), expected, "{status:?}");
        }
    }

    #[test]
    fn test_status_names_are_stable() {
        let names = [
            "defined", "starting", "running", "paused", "suspended", "busy", "stopping", "stopped", "restore-failed",
            "io-error", "panicked", "unreachable", "orphaned",
        ];

        assert_eq!(Status::NAMES, names);
        assert_eq!([Status::IoError, STOPPED, Status::Orphaned].map(Status::as_str), [names[9], names[7], names[12]]);
    }

    #[test]
    fn test_run_state_unknown_value_is_unrecognised() {
        let state: RunState = serde_json::from_str("\"brand-new\"").unwrap();

        assert_eq!(state, RunState::Unrecognised);
    }
}
