//! `pause`, `resume` and `reset`: the buttons of a running machine.

use maqet_domain::event::kind;
use maqet_domain::qmp::QmpCommand;
use maqet_domain::vm::{Action, Status, Transition};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::operations::{Done, Effect, Operation};
use crate::vm::observe::VmStatus;
use crate::vm::unresponsive::refusal;
use crate::{App, Error};

/// Have a running VM stand still
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
}

/// Have a VM that stands still go on
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
}

/// Press a VM's reset button: to the guest it is a power cut, and it boots anew
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// The VM: a name, an id, or the unique beginning of one.
    pub vm: String,
}

/// A VM whose button was pressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PowerChanged {
    /// Its state.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// Whether this call changed anything; `false` if it was so already.
    pub changed: bool,
}

impl Operation for Pause {
    const NAME: &'static str = "pause";
    const EFFECT: Effect = Effect::Acts;
    type Output = PowerChanged;

    async fn run(&self, app: &App) -> Result<Done<PowerChanged>, Error> {
        press(app, &self.vm, Self::NAME, Button::Pause).await
    }
}

impl Operation for Resume {
    const NAME: &'static str = "resume";
    const EFFECT: Effect = Effect::Acts;
    type Output = PowerChanged;

    async fn run(&self, app: &App) -> Result<Done<PowerChanged>, Error> {
        press(app, &self.vm, Self::NAME, Button::Resume).await
    }
}

impl Operation for Reset {
    const NAME: &'static str = "reset";
    const EFFECT: Effect = Effect::Acts;
    type Output = PowerChanged;

    async fn run(&self, app: &App) -> Result<Done<PowerChanged>, Error> {
        press(app, &self.vm, Self::NAME, Button::Reset).await
    }
}

/// A button of a running machine.
#[derive(Debug, Clone, Copy)]
enum Button {
    Pause,
    Resume,
    Reset,
}

impl Button {
    const fn input(self) -> Action {
        match self {
            Self::Pause => Action::Pause,
            Self::Resume => Action::Resume,
            Self::Reset => Action::Reset,
        }
    }

    const fn event(self) -> &'static str {
        match self {
            Self::Pause => kind::VM_PAUSED,
            Self::Resume => kind::VM_RESUMED,
            Self::Reset => kind::VM_RESET,
        }
    }

    /// Returns the QMP commands behind it.
    ///
    /// A machine that stopped because of a panic or a failed disk stays paused when it is reset (7.2), so it is let go
    /// afterwards; one that somebody paused stays paused.
    const fn commands(self, status: Status) -> &'static [&'static str] {
        match (self, status) {
            (Self::Pause, _) => &["stop"],
            (Self::Resume, _) => &["cont"],
            (Self::Reset, Status::Panicked | Status::IoError) => &["system_reset", "cont"],
            (Self::Reset, _) => &["system_reset"],
        }
    }
}

async fn press(app: &App, vm: &str, operation: &'static str, button: Button) -> Result<Done<PowerChanged>, Error> {
    let (guard, vm) = app.lock(vm, operation).await?;
    let entry = &vm.entry;
    let seen = app.observe_locked(entry).await;
    let step = seen.status.on(button.input()).map_err(|refused| refusal(entry, &seen, refused))?;
    let (Transition::Proceed, Some(run)) = (step, &entry.run) else {
        return Ok(Done::reading(PowerChanged { vm: VmStatus::new(entry, &seen), changed: false })
            .about(entry.id)
            .holding(guard));
    };
    for command in button.commands(seen.status) {
        let command = QmpCommand::new(*command);
        app.ports.monitors.execute(&run.paths, &command, app.timeouts().qmp).await?;
    }
    let seen = app.observe_locked(entry).await;
    let event = app.event(button.event(), entry, json!({ "boot": run.boot }));
    let pressed = PowerChanged { vm: VmStatus::new(entry, &seen), changed: true };
    Ok(Done::reading(pressed).about(entry.id).telling(event).holding(guard))
}
