//! `pause`, `resume` and `reset`: changes of a running VM's power state.

use std::time::Duration;

use maqet_domain::event::kind;
use maqet_domain::qmp::QmpCommand;
use maqet_domain::vm::{Action, HaltReason, Run, Status, Transition, VmEntry};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::app::operations::{Done, Effect, Operation};
use crate::guest::clock::set_clock;
use crate::vm::observe::{Observation, VmStatus};
use crate::vm::unresponsive::explain_unresponsive;
use crate::{App, Error, limits};

/// Pauses a running VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Pause {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
}

impl Pause {
    /// Pauses the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into() }
    }
}

impl Operation for Pause {
    const NAME: &'static str = "pause";
    const EFFECT: Effect = Effect::Acts;
    type Output = PowerChanged;

    async fn run(&self, app: &App) -> Result<Done<PowerChanged>, Error> {
        let change = PowerChange { action: Action::Pause, event: kind::VM_PAUSED, commands: |_| &["stop"] };
        change.apply(app, &self.vm, Self::NAME).await
    }
}

/// Resumes a paused VM, or wakes a suspended one; fails if the guest is halted again at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Resume {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
}

impl Resume {
    /// Resumes the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into() }
    }
}

impl Operation for Resume {
    const NAME: &'static str = "resume";
    const EFFECT: Effect = Effect::Acts;
    type Output = PowerChanged;

    async fn run(&self, app: &App) -> Result<Done<PowerChanged>, Error> {
        let change = PowerChange { action: Action::Resume, event: kind::VM_RESUMED, commands: resume_commands };
        change.apply(app, &self.vm, Self::NAME).await
    }
}

/// Resets a running VM: a power cut for the guest, which boots again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Reset {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
}

impl Reset {
    /// Resets the VM `vm`.
    pub fn new(vm: impl Into<String>) -> Self {
        Self { vm: vm.into() }
    }
}

impl Operation for Reset {
    const NAME: &'static str = "reset";
    const EFFECT: Effect = Effect::Acts;
    type Output = PowerChanged;

    async fn run(&self, app: &App) -> Result<Done<PowerChanged>, Error> {
        let change = PowerChange { action: Action::Reset, event: kind::VM_RESET, commands: reset_commands };
        change.apply(app, &self.vm, Self::NAME).await
    }
}

/// A VM whose power state was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PowerChanged {
    /// Its state.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// Whether this call changed anything.
    pub changed: bool,
    /// Whether the guest agent has set the clock of a resumed guest, which was behind.
    #[serde(skip_serializing_if = "is_false")]
    pub clock_set: bool,
    /// Whether the guest was reset but does not run, because the VM was paused before and still is.
    #[serde(skip_serializing_if = "is_false")]
    pub awaits_resume: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "Serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Returns the command that makes a guest run.
const fn resume_commands(observation: &Observation) -> &'static [&'static str] {
    match observation.status {
        Status::Suspended => &["system_wakeup"],
        _ => &["cont"],
    }
}

/// Returns the commands that reset a VM.
///
/// One that halted because of a panic, a failed disk or its watchdog stays paused after a reset (QEMU 7.2), so it is
/// resumed; one that was paused on request stays paused.
const fn reset_commands(observation: &Observation) -> &'static [&'static str] {
    match (observation.status, observation.halted) {
        (Status::Panicked | Status::IoError, _) | (Status::Paused, Some(HaltReason::Watchdog)) => {
            &["system_reset", "cont"]
        }
        _ => &["system_reset"],
    }
}

/// A change of a running VM's power state.
struct PowerChange {
    action: Action,
    event: &'static str,
    /// Returns the QMP commands, given the state of the VM.
    commands: fn(&Observation) -> &'static [&'static str],
}

impl PowerChange {
    async fn apply(&self, app: &App, vm: &str, operation: &'static str) -> Result<Done<PowerChanged>, Error> {
        let (guard, vm) = match self.action {
            // The agent of a guest that is paused cannot thaw it.
            Action::Reset | Action::Resume => app.vms().lock_frozen(vm, operation).await?,
            _ => app.vms().lock(vm, operation).await?,
        };
        let entry = &vm.entry;
        let before = app.observer().observe_locked(entry).await;
        let (Transition::Proceed, Some(run)) = (before.transition(entry, self.action)?, &entry.run) else {
            let vm = VmStatus::new(entry, &before);
            let unchanged = PowerChanged { vm, changed: false, clock_set: false, awaits_resume: false };
            return Ok(Done::reading(unchanged).about(entry.id).holding(guard));
        };
        self.send(app, entry, run, &before).await?;
        let after = self.observe_lasting(app, entry, run, &before).await?;
        if !self.is_expected(&before, after.status) {
            return Err(after.power_change_failed(entry, self.action).into());
        }
        if self.action == Action::Reset {
            app.vms().recover_reset(vm.clone(), &*guard).await;
        }
        let event = app.committer().event(self.event, entry, json!({ "boot": run.boot }));
        // A resumed guest goes on with its old time; one that was reset reads the real-time clock.
        let after = if self.action == Action::Resume { app.observer().observe_clock(run, after).await } else { after };
        let awaits_resume = self.action == Action::Reset && after.status == Status::Paused;
        let mut vm = VmStatus::new(entry, &after);
        let is_behind = self.action == Action::Resume && vm.clock_behind_ms.is_some();
        let clock_set = is_behind && set_clock(app, &run.paths).await;
        vm.clock_behind_ms = vm.clock_behind_ms.filter(|_| !clock_set);
        let changed = PowerChanged { vm, changed: true, clock_set, awaits_resume };
        Ok(Done::reading(changed).about(entry.id).event(event).holding(guard))
    }

    async fn send(&self, app: &App, entry: &VmEntry, run: &Run, observation: &Observation) -> Result<(), Error> {
        for command in (self.commands)(observation) {
            let command = QmpCommand::new(*command);
            let reply = app.ports.monitors.execute(&run.paths, &command, app.timeouts().qmp).await;
            if let Err(error) = reply {
                return Err(explain_unresponsive(app, &entry.id.to_string(), error.into()).await);
            }
        }
        Ok(())
    }

    /// Observes the VM until its state lasts: QEMU accepts a command before the guest runs, and the guest may be halted
    /// again at once.
    async fn observe_lasting(
        &self,
        app: &App,
        entry: &VmEntry,
        run: &Run,
        before: &Observation,
    ) -> Result<Observation, Error> {
        let sent = Instant::now();
        let mut is_woken = before.status == Status::Suspended;
        let deadline = sent + check_time(before.status);
        loop {
            let after = app.observer().observe_locked(entry).await;
            let is_pending = match (self.action, after.status) {
                (Action::Pause, _) => false,
                // It was suspended before it was paused (10.0), so that `cont` alone does not make it run.
                (Action::Resume, Status::Suspended) if !is_woken => {
                    is_woken = true;
                    self.send(app, entry, run, &after).await?;
                    true
                }
                (_, Status::Suspended) => Instant::now() < sent + limits::WAKE_TIMEOUT,
                (_, Status::Running) => Instant::now() < deadline,
                // It exits on a reset, and its monitor has gone first.
                (Action::Reset, Status::Unreachable | Status::Busy) => {
                    Instant::now() < sent + limits::RESET_EXIT_TIMEOUT
                }
                (_, _) => false,
            };
            if !is_pending {
                return Ok(after);
            }
            sleep(limits::STATE_CHECK_INTERVAL).await;
        }
    }

    /// Returns whether the change may leave a VM in this state.
    ///
    /// A guest that ran and ended, or that QEMU works on, did change.
    fn is_expected(&self, before: &Observation, after: Status) -> bool {
        match after {
            Status::Running => self.action != Action::Pause,
            Status::Paused => match self.action {
                Action::Pause => true,
                Action::Reset => (self.commands)(before).len() == 1,
                _ => false,
            },
            Status::Suspended | Status::IoError | Status::Panicked | Status::RestoreFailed => false,
            Status::Defined
            | Status::Starting
            | Status::Busy
            | Status::Stopping
            | Status::Stopped(_)
            | Status::Unreachable
            | Status::Orphaned => true,
        }
    }
}

/// Returns how long a guest that was in this state is watched.
const fn check_time(before: Status) -> Duration {
    match before {
        Status::IoError => limits::IO_ERROR_CHECK_TIME,
        _ => limits::STATE_CHECK_TIME,
    }
}
