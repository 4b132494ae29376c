//! `pause`, `resume` and `reset`: changes of a running VM's power state.

use maqet_domain::event::kind;
use maqet_domain::qmp::QmpCommand;
use maqet_domain::vm::{Action, Status, Transition};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, Operation};
use crate::vm::observe::VmStatus;
use crate::{App, Error};

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

/// Resumes a paused VM.
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
        let change = PowerChange { action: Action::Resume, event: kind::VM_RESUMED, commands: |_| &["cont"] };
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
}

/// Returns the commands that reset a VM.
///
/// One that halted because of a panic or a failed disk stays paused after a reset (QEMU 7.2), so it is resumed; one that
/// was paused on request stays paused.
const fn reset_commands(status: Status) -> &'static [&'static str] {
    match status {
        Status::Panicked | Status::IoError => &["system_reset", "cont"],
        _ => &["system_reset"],
    }
}

/// A change of a running VM's power state.
struct PowerChange {
    action: Action,
    event: &'static str,
    /// Returns the QMP commands, given the status of the VM.
    commands: fn(Status) -> &'static [&'static str],
}

impl PowerChange {
    async fn apply(&self, app: &App, vm: &str, operation: &'static str) -> Result<Done<PowerChanged>, Error> {
        let (guard, vm) = app.vms().lock(vm, operation).await?;
        let entry = &vm.entry;
        let observation = app.observer().observe_locked(entry).await;
        let (Transition::Proceed, Some(run)) = (observation.transition(entry, self.action)?, &entry.run) else {
            let unchanged = PowerChanged { vm: VmStatus::new(entry, &observation), changed: false };
            return Ok(Done::reading(unchanged).about(entry.id).holding(guard));
        };
        for command in (self.commands)(observation.status) {
            let command = QmpCommand::new(*command);
            app.ports.monitors.execute(&run.paths, &command, app.timeouts().qmp).await?;
        }
        let observation = app.observer().observe_locked(entry).await;
        let event = app.committer().event(self.event, entry, json!({ "boot": run.boot }));
        let changed = PowerChanged { vm: VmStatus::new(entry, &observation), changed: true };
        Ok(Done::reading(changed).about(entry.id).event(event).holding(guard))
    }
}
