//! The power button of a guest: pressed again and again, until the guest reacts or the time is up.
//!
//! A press is a request, and QEMU discards it while the guest has not enabled the button (QEMU 7.2, 10.0): firmware, a
//! boot loader and a booting kernel miss it. Only QEMU shows a reaction: its process exits, or, with `-no-shutdown`, its
//! log has a `SHUTDOWN` and its run state is `shutdown`.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::{Either, select};
use maqet_domain::qmp::{QmpCommand, QmpError, RunState};
use maqet_domain::vm::{MonitorAnswer, ProcessIdentity, Run, RunEnd, Status};
use tokio::time::{Instant, sleep};

use super::shutdown::Shutdown;
use crate::job::{Job, ProgressUnit};
use crate::limits;

/// What to do next about a guest that is to power off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Press the button.
    Press,
    /// Wake the guest, then press the button.
    WakeAndPress,
    /// Leave it alone for now: it may be resumed, or QEMU may answer again.
    Wait,
    /// Nothing: it is off.
    Off,
    /// Nothing: it will never react.
    Halted,
}

impl Step {
    /// Returns the first step, given the observed state of the VM.
    const fn first(status: Status) -> Self {
        match status {
            Status::Suspended => Self::WakeAndPress,
            Status::Stopping => Self::Off,
            Status::Paused | Status::RestoreFailed | Status::IoError | Status::Panicked => Self::Halted,
            Status::Defined
            | Status::Starting
            | Status::Running
            | Status::Busy
            | Status::Stopped(_)
            | Status::Unreachable
            | Status::Orphaned => Self::Press,
        }
    }

    /// Returns the next step, given what QEMU answers some time after a press.
    const fn next(answer: MonitorAnswer) -> Self {
        let state = match answer {
            MonitorAnswer::State(state) => state,
            MonitorAnswer::Blocked | MonitorAnswer::TimedOut => return Self::Wait,
        };
        match state {
            RunState::Running | RunState::Colo | RunState::Unrecognised => Self::Press,
            RunState::Suspended => Self::WakeAndPress,
            RunState::Shutdown => Self::Off,
            RunState::GuestPanicked | RunState::InternalError | RunState::RestoreVm => Self::Halted,
            RunState::Paused
            | RunState::Prelaunch
            | RunState::Watchdog
            | RunState::IoError
            | RunState::Inmigrate
            | RunState::Postmigrate
            | RunState::FinishMigrate
            | RunState::SaveVm => Self::Wait,
        }
    }
}

/// How a guest reacted to its power button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// QEMU exited.
    Exited,
    /// The guest is off, and QEMU runs, or takes long to exit; its log may say why.
    Off(Option<RunEnd>),
    /// It did not react in time, or cannot react.
    None,
}

/// The power button of a running VM.
pub(super) struct PowerButton<'a> {
    shutdown: Shutdown<'a>,
    run: &'a Run,
    process: &'a ProcessIdentity,
    presses: AtomicU32,
}

impl<'a> PowerButton<'a> {
    pub(super) const fn new(shutdown: Shutdown<'a>, run: &'a Run, process: &'a ProcessIdentity) -> Self {
        Self { shutdown, run, process, presses: AtomicU32::new(0) }
    }

    /// Returns how often it was pressed.
    pub(super) fn presses(&self) -> u32 {
        self.presses.load(Ordering::Relaxed)
    }

    /// Presses the button of a VM in state `status` until the guest reacts, for at most `timeout`.
    pub(super) async fn power_down(&self, status: Status, timeout: Duration, job: &Job<'_>) -> Reaction {
        let first = Step::first(status);
        if first == Step::Halted {
            return Reaction::None;
        }
        let exited = self.shutdown.processes.wait_for_exit(self.process, timeout);
        let pressed = std::pin::pin!(self.press_until_off(first, timeout, job));
        match select(pressed, exited).await {
            Either::Left((reaction, _)) => reaction,
            Either::Right((true, _)) => Reaction::Exited,
            // It may have powered off since it was last observed.
            Either::Right((false, _)) => {
                self.shutdown_event().await.map_or(Reaction::None, |it| Reaction::Off(Some(it)))
            }
        }
    }

    /// Presses the button every few seconds; returns once the guest is off, or cannot react.
    async fn press_until_off(&self, first: Step, timeout: Duration, job: &Job<'_>) -> Reaction {
        let began = Instant::now();
        let mut step = first;
        loop {
            match step {
                Step::Press => {
                    if !self.press(began + timeout).await && self.presses() == 0 {
                        return Reaction::None;
                    }
                }
                Step::WakeAndPress => {
                    let _ = self.send("system_wakeup", limits::QUERY_TIMEOUT).await;
                    self.press(began + timeout).await;
                }
                Step::Wait => {}
                Step::Off => return Reaction::Off(self.shutdown_event().await),
                Step::Halted => return Reaction::None,
            }
            let next = Instant::now() + limits::POWER_BUTTON_INTERVAL;
            while Instant::now() < next {
                job.report(ProgressUnit::Seconds, began.elapsed().as_secs(), timeout.as_secs());
                sleep(limits::RETRY_INTERVAL).await;
                if let Some(event) = self.shutdown_event().await {
                    return self.off(event).await;
                }
            }
            step = Step::next(self.answer().await);
        }
    }

    /// Returns once it is known that QEMU keeps running although its guest is off; usually it exits meanwhile.
    async fn off(&self, event: RunEnd) -> Reaction {
        while self.answer().await != MonitorAnswer::State(RunState::Shutdown) {
            sleep(limits::RETRY_INTERVAL).await;
        }
        Reaction::Off(Some(event))
    }

    /// Presses the button as soon as the monitor accepts it; returns whether it can be reached.
    async fn press(&self, deadline: Instant) -> bool {
        loop {
            // Briefly, because other callers queue for the monitor meanwhile.
            let left = deadline.saturating_duration_since(Instant::now()).min(limits::QUERY_TIMEOUT);
            match self.send("system_powerdown", left).await {
                Ok(()) | Err(QmpError::ConnectionClosed { .. } | QmpError::TimedOut { .. }) => {
                    self.presses.fetch_add(1, Ordering::Relaxed);
                    return true;
                }
                Err(
                    QmpError::MonitorUnavailable { .. } | QmpError::InvalidResponse { .. } | QmpError::Refused { .. },
                ) => return false,
                // Another client is connected, or the main loop is blocked: retried until the timeout.
                Err(error) => {
                    tracing::debug!(%error, "power button not pressed yet");
                    sleep(limits::RETRY_INTERVAL).await;
                }
            }
        }
    }

    async fn send(&self, command: &str, timeout: Duration) -> Result<(), QmpError> {
        self.shutdown.monitors.execute(&self.run.paths, &QmpCommand::new(command), timeout).await.map(drop)
    }

    async fn answer(&self) -> MonitorAnswer {
        self.shutdown.monitors.answer(&self.run.paths, limits::QUERY_TIMEOUT).await
    }

    async fn shutdown_event(&self) -> Option<RunEnd> {
        self.shutdown.hypervisor.shutdown_event(&self.run.paths).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_step_after_a_press_depends_on_the_run_state() {
        let next = |state| Step::next(MonitorAnswer::State(state));

        assert_eq!(next(RunState::Running), Step::Press);
        assert_eq!(next(RunState::Suspended), Step::WakeAndPress);
        assert_eq!(next(RunState::Shutdown), Step::Off);
        assert_eq!(next(RunState::GuestPanicked), Step::Halted);
        assert_eq!([RunState::Paused, RunState::IoError, RunState::SaveVm].map(next), [Step::Wait; 3]);
        assert_eq!([MonitorAnswer::Blocked, MonitorAnswer::TimedOut].map(Step::next), [Step::Wait; 2]);
    }

    #[test]
    fn test_step_first_skips_the_button_of_a_halted_guest() {
        assert_eq!([Status::Running, Status::Busy].map(Step::first), [Step::Press; 2]);
        assert_eq!([Status::Paused, Status::IoError, Status::Panicked].map(Step::first), [Step::Halted; 3]);
        assert_eq!([Status::Stopping, Status::Suspended].map(Step::first), [Step::Off, Step::WakeAndPress]);
    }
}
