//! `qmp device-del`: a device taken out of a running machine, with its back end.

use std::time::Duration;

use maqet_domain::event::kind;
use maqet_domain::fault::FaultPoint;
use maqet_domain::hotplug::{Card, back_end_of};
use maqet_domain::near::near;
use maqet_domain::port::{Heard, MonitorSession, QmpCommand, QmpError};
use maqet_domain::qemu::QmpEvent;
use maqet_domain::vm::{MonitorAnswer, RunState};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::call::{Done, Effect, Operation};
use crate::hotplug::{Device, Plugged, back_end_in, items, of_the_user};
use crate::hotplug_error::HotplugError;
use crate::{App, Error, Patience, limits};

/// Take a device out of a running VM
///
/// Asks the guest to let it go, and waits until it did; then removes what `device-add` made behind it. A guest that does
/// not answer may still let the device go later: the same command again tells, and removes what is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
pub struct QmpDeviceDel {
    /// Name, id, or unique beginning of an id
    pub vm: String,
    /// The id of the device; a drive's and a card's name in the definition will do
    #[cfg_attr(feature = "clap", arg(value_name = "ID"))]
    pub device: String,
    /// How long the guest may take [default: `timeouts.qmp`, else 30s]
    #[serde(default)]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<Patience>,
}

/// A device that was taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceDeleted {
    /// The VM's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The id of the device.
    pub device: String,
    /// Whether this call saw it go; `false` if only its back end was left.
    pub changed: bool,
    /// The block node or network back end that was removed with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_end: Option<String>,
}

/// What became of a request.
enum Answer {
    Gone,
    Refused(Option<String>),
    Silence,
}

impl QmpDeviceDel {
    /// Takes the device with this id out.
    pub fn new(vm: impl Into<String>, device: impl Into<String>) -> Self {
        Self { vm: vm.into(), device: device.into(), timeout: None }
    }
}

impl Operation for QmpDeviceDel {
    const NAME: &'static str = "qmp.device-del";
    const EFFECT: Effect = Effect::Acts;
    type Output = DeviceDeleted;

    async fn run(&self, app: &App) -> Result<Done<DeviceDeleted>, Error> {
        let patience = self.timeout.map_or(app.timeouts().qmp, Patience::duration);
        let until = Instant::now() + patience;
        let plugged = app.plugged(&self.vm, Self::NAME, app.timeouts().qmp).await?;
        let (devices, cards) = (plugged.devices().await?, plugged.cards().await?);
        let Some(device) = meant(&self.device, &devices, &cards) else {
            return match self.remove_back_end(&plugged).await? {
                Some(back_end) => Ok(self.done(app, plugged, false, Some(back_end))),
                None => Err(self.not_there(&plugged, &devices, &cards).await?),
            };
        };
        // It holds a session, and would make the futures of its callers large.
        Box::pin(Self { device, ..self.clone() }.take_out(app, plugged, until, patience)).await
    }
}

/// Returns the id of the device that is called so.
fn meant(given: &str, devices: &[Device], cards: &[Card]) -> Option<String> {
    let has = |id: &str| devices.iter().any(|device| device.id == id);
    // Drives have their names for ids.
    let of_card = || cards.iter().find(|card| card.name() == given).map(|card| card.device.as_str());
    Some(given).filter(|id| has(id)).or_else(of_card).filter(|id| has(id)).map(str::to_owned)
}

impl QmpDeviceDel {
    /// Tells what there is instead of the device.
    async fn not_there(&self, plugged: &Plugged<'_>, devices: &[Device], cards: &[Card]) -> Result<Error, QmpError> {
        let (vm, id) = (plugged.entry.name.clone(), self.device.clone());
        let paths = plugged.nameless(&id).await?;
        if !paths.is_empty() {
            return Ok(HotplugError::NoId { vm, driver: id, paths }.into());
        }
        let ids: Vec<&str> = of_the_user(devices).map(|device| device.id.as_str()).collect();
        let name = |id: &&str| cards.iter().find(|card| card.device == *id).map_or(*id, Card::name).to_owned();
        let known: Vec<String> = ids.iter().map(name).collect();
        let all =
            known.iter().map(String::as_str).chain(ids.into_iter().filter(|id| !known.iter().any(|name| name == id)));
        let near = near(&id, all);
        Ok(HotplugError::NoDevice { vm, what: "device", id, near, known }.into())
    }

    /// Asks the guest to let the device of this id go, waits until it did, and removes what was behind it.
    async fn take_out(
        &self,
        app: &App,
        plugged: Plugged<'_>,
        until: Instant,
        patience: Duration,
    ) -> Result<Done<DeviceDeleted>, Error> {
        // Before the command, so that no event is missed.
        let mut session = app.ports.monitors.session(&plugged.run.places, app.timeouts().qmp).await?;
        if let Err(error) = self.request(session.as_mut(), app.timeouts().qmp).await {
            return Err(self.explained(&plugged, error));
        }
        // The guest may take its time, and others are not to wait for it.
        let Plugged { entry, run, guard, .. } = plugged;
        drop(guard);
        let answer = self.listen(session.as_mut(), until).await?;
        drop(session);
        match answer {
            Answer::Gone => {}
            Answer::Refused(why) => {
                return Err(HotplugError::GuestRefused { vm: entry.name, id: self.device.clone(), why }.into());
            }
            Answer::Silence => {
                let state = app.ports.monitors.answer(&run.places, limits::RUN_STATE).await;
                let stands_still = matches!(state, MonitorAnswer::State(state) if state != RunState::Running);
                let (vm, id) = (entry.name, self.device.clone());
                return Err(HotplugError::NotReleased { vm, id, after: patience, stands_still }.into());
            }
        }
        app.faults.reach(FaultPoint::DeviceGone);
        let plugged = app.plugged(&self.vm, Self::NAME, app.timeouts().qmp).await?;
        let back_end = self.remove_back_end(&plugged).await?;
        Ok(self.done(app, plugged, true, back_end))
    }

    /// QEMU tells by a word about its bus that a device is there to stay.
    fn explained(&self, plugged: &Plugged<'_>, refused: QmpError) -> Error {
        match refused {
            QmpError::Refused { description, .. } if description.contains("does not support hot") => {
                let (vm, id) = (plugged.entry.name.clone(), self.device.clone());
                HotplugError::Fixed { vm, id, why: description }.into()
            }
            other => other.into(),
        }
    }

    /// Asks the guest to let the device go; somebody may have asked already.
    async fn request(&self, session: &mut dyn MonitorSession, deadline: Duration) -> Result<(), QmpError> {
        let command = QmpCommand::new("device_del").with("id", self.device.as_str());
        match session.execute(&command, deadline).await {
            Err(QmpError::Refused { description, .. }) if description.contains("in the process of unplug") => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Waits for what the guest answers.
    async fn listen(&self, session: &mut dyn MonitorSession, until: Instant) -> Result<Answer, QmpError> {
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(limits::UNPLUG_LOOK);
            match session.heard(left).await? {
                Some(Heard::Event(event)) if self.is_meant(&event) => match event.name.as_str() {
                    "DEVICE_DELETED" => return Ok(Answer::Gone),
                    "DEVICE_UNPLUG_GUEST_ERROR" | "MEM_UNPLUG_ERROR" => {
                        return Ok(Answer::Refused(event.data["msg"].as_str().map(str::to_owned)));
                    }
                    _ => {}
                },
                Some(Heard::Event(_)) => {}
                // Who asked before us may have been answered before we listened, and events may be missed.
                Some(Heard::Missed(_)) | None => {
                    let path = format!("/machine/peripheral/{}", self.device);
                    match session.execute(&QmpCommand::new("qom-list").with("path", path), limits::RUN_STATE).await {
                        Err(QmpError::Refused { .. }) => return Ok(Answer::Gone),
                        Ok(_) | Err(QmpError::TimedOut { .. }) => {}
                        Err(other) => return Err(other),
                    }
                    if Instant::now() >= until {
                        return Ok(Answer::Silence);
                    }
                }
            }
        }
    }

    fn is_meant(&self, event: &QmpEvent) -> bool {
        event.data["device"] == self.device.as_str()
    }

    /// Removes what was behind the device, which QEMU may still hold for a moment.
    async fn remove_back_end(&self, plugged: &Plugged<'_>) -> Result<Option<String>, Error> {
        let (name, file) = (back_end_of(&self.device), format!("{}-file", self.device));
        for _ in 0..limits::BACK_END_TRIES {
            let swept = plugged.sweep().await?;
            if let Some(back_end) = back_end_in(&swept, &self.device) {
                return Ok(Some(back_end));
            }
            let nodes = plugged.ask(&QmpCommand::new("query-named-block-nodes").with("flat", true)).await?;
            let has = |name: &str| items(&nodes).any(|node| node["node-name"] == name);
            // A drive of the definition has two, which are called as it is.
            let is_of_definition = has(&self.device) && has(&file);
            if is_of_definition && plugged.remove_node(&self.device).await? {
                plugged.remove_node(&file).await?;
                return Ok(Some(self.device.clone()));
            }
            if !is_of_definition && !has(&name) {
                break;
            }
            tokio::time::sleep(limits::BACK_END_PAUSE).await;
        }
        Ok(None)
    }

    fn done(&self, app: &App, plugged: Plugged<'_>, changed: bool, back_end: Option<String>) -> Done<DeviceDeleted> {
        let Plugged { entry, run, guard, .. } = plugged;
        let deleted = DeviceDeleted {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            device: self.device.clone(),
            changed,
            back_end,
        };
        let data = json!({ "boot": run.boot, "device": deleted.device, "back_end": deleted.back_end });
        let event = app.event(kind::DEVICE_REMOVED, &entry, data);
        Done::reading(deleted).about(entry.id).telling(event).holding(guard)
    }
}
