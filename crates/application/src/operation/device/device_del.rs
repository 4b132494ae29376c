//! `qmp device-del`: a device taken out of a running machine, with its back end.

use std::time::Duration;

use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::hotplug::BootDevices;
use maqet_domain::port::{MonitorSession, SessionEvent};
use maqet_domain::qmp::QmpEvent;
use maqet_domain::qmp::RunState;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::text::similar;
use maqet_domain::vm::{BootNumber, MonitorAnswer, Run};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::app::commit::run_change;
use crate::app::operations::{Done, Effect, Operation};
use crate::device::error::{DeviceError, Origin};
use crate::device::removal::Removal;
use crate::device::session::{Device, HotplugSession, PERIPHERAL};
use crate::{App, Error, HumanDuration, limits};

/// Take a device out of a running VM
///
/// Asks the guest to let it go, and waits until it did; then removes what `device-add` made behind it. A guest that does
/// not answer may still let the device go later: the same command again tells, and removes what is left. Of a drive or
/// card of the definition the file or network goes, too, until the next start.
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
    pub timeout: Option<HumanDuration>,
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
    /// What is behind it still, as something else uses it, such as a block job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_use: Option<String>,
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
        let until = Instant::now() + self.patience(app);
        let plugged = app.plugged(&self.vm, Self::NAME, app.timeouts().qmp).await?;
        let (devices, equipment) = (plugged.devices().await?, plugged.equipment());
        // What is left of a plugged device of this name comes before a card that is called so.
        for id in [Some(self.device.clone()), equipment.device_of_card(&self.device)].into_iter().flatten() {
            if devices.iter().any(|device| device.id == id) {
                // It holds a session, and would make the futures of its callers large.
                return Box::pin(self.take_out(&id, &equipment, app, plugged, until)).await;
            }
            let removal = plugged.remove_now(&equipment.backends(&id)).await?;
            if removal.back_end.is_some() {
                let taken = Taken { device: &id, changed: false, boot: plugged.run.boot, removal };
                return Ok(taken.done(app, plugged).await);
            }
            if let Some(name) = removal.in_use {
                let by = plugged.behind(&name).await?.and_then(|behind| behind.device);
                return Err(DeviceError::BackEndInUse { vm: plugged.entry.name.clone(), id: name, by }.into());
            }
        }
        Err(self.not_there(&plugged, &devices, &equipment).await?)
    }
}

impl QmpDeviceDel {
    fn patience(&self, app: &App) -> Duration {
        self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration)
    }

    /// Tells what there is instead of the device.
    async fn not_there(
        &self,
        plugged: &HotplugSession<'_>,
        devices: &[Device],
        equipment: &BootDevices,
    ) -> Result<Error, QmpError> {
        let (vm, id) = (plugged.entry.name.clone(), self.device.clone());
        let paths = plugged.nameless(&id).await?;
        if !paths.is_empty() {
            return Ok(DeviceError::NoId { vm, driver: id, paths }.into());
        }
        if let Some(behind) = plugged.behind(&id).await? {
            return Ok(DeviceError::BackEnd { vm, id, by: behind.device }.into());
        }
        let ids = devices.iter().map(|device| device.id.as_str()).filter(|id| !equipment.is_bus(id));
        let ids: Vec<&str> = ids.collect();
        let known: Vec<String> = ids.iter().map(|id| equipment.name_of(id).to_owned()).collect();
        let all =
            known.iter().map(String::as_str).chain(ids.into_iter().filter(|id| !known.iter().any(|name| name == id)));
        let similar = similar(&id, all);
        Ok(DeviceError::NoDevice { vm, what: "device", id, similar, known }.into())
    }

    /// Asks the guest to let a device go, waits until it did, and removes what was behind it.
    async fn take_out(
        &self,
        id: &str,
        equipment: &BootDevices,
        app: &App,
        plugged: HotplugSession<'_>,
        until: Instant,
    ) -> Result<Done<DeviceDeleted>, Error> {
        let fixed = |why: String, origin: Origin| {
            let vm = plugged.entry.name.clone();
            DeviceError::Fixed { vm, id: id.to_owned(), why, origin }
        };
        if equipment.is_bus(id) {
            return Err(fixed("other devices sit on it".to_owned(), Origin::Maqet).into());
        }
        // Before the command, so that no event is missed.
        let mut session = app.ports.monitors.session(&plugged.run.paths, app.timeouts().qmp).await?;
        let leaving = Leaving { id };
        match leaving.request(session.as_mut(), app.timeouts().qmp).await {
            // QEMU tells by a word about its bus that a device is there to stay.
            Err(QmpError::Refused { description, .. }) if description.contains("does not support hot") => {
                let origin = if equipment.has_device(id) { Origin::Definition } else { Origin::HotplugSession };
                return Err(fixed(description, origin).into());
            }
            answer => answer?,
        }
        // The guest may take its time, and others are not to wait for it.
        let HotplugSession { entry, run, guard, .. } = plugged;
        drop(guard);
        let answer = leaving.listen(session.as_mut(), until).await;
        drop(session);
        match answer {
            Ok(Answer::Gone) => {}
            // QEMU closes no monitor before its end.
            Err(QmpError::ConnectionClosed { .. }) => {
                return Err(DeviceError::RunEnded { vm: entry.name, id: id.to_owned() }.into());
            }
            Err(other) => return Err(other.into()),
            Ok(Answer::Refused(why)) => {
                return Err(DeviceError::GuestRefused { vm: entry.name, id: id.to_owned(), why }.into());
            }
            Ok(Answer::Silence) => {
                let state = app.ports.monitors.answer(&run.paths, limits::RUN_STATE_TIMEOUT).await;
                let stands_still = matches!(state, MonitorAnswer::State(state) if state != RunState::Running);
                let (vm, id, after) = (entry.name, id.to_owned(), self.patience(app));
                return Err(DeviceError::NotReleased { vm, id, after, stands_still }.into());
            }
        }
        app.faults.reach(FaultPoint::DeviceGone);
        // What was given may be the beginning of several ids by now, or the name of another VM.
        let plugged = app.plugged(&entry.id.to_string(), Self::NAME, app.timeouts().qmp).await?;
        // What was behind it ended with its run, and the next one has all of its devices.
        let removal = if plugged.run.boot == run.boot {
            plugged.remove_soon(&equipment.backends(id)).await?
        } else {
            Removal::default()
        };
        Ok(Taken { device: id, changed: true, boot: run.boot, removal }.done(app, plugged).await)
    }
}

/// A device that the guest is asked to let go.
struct Leaving<'a> {
    id: &'a str,
}

impl Leaving<'_> {
    /// Asks the guest to let the device go; somebody may have asked already.
    async fn request(&self, session: &mut dyn MonitorSession, deadline: Duration) -> Result<(), QmpError> {
        let command = QmpCommand::new("device_del").with("id", self.id);
        match session.execute(&command, deadline).await {
            Err(QmpError::Refused { description, .. }) if description.contains("in the process of unplug") => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Waits for what the guest answers.
    async fn listen(&self, session: &mut dyn MonitorSession, until: Instant) -> Result<Answer, QmpError> {
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(limits::UNPLUG_INTERVAL);
            match session.next_event(left).await? {
                Some(SessionEvent::Event(event)) if self.is_meant(&event) => match event.name.as_str() {
                    "DEVICE_DELETED" => return Ok(Answer::Gone),
                    "DEVICE_UNPLUG_GUEST_ERROR" | "MEM_UNPLUG_ERROR" => {
                        return Ok(Answer::Refused(event.data["msg"].as_str().map(str::to_owned)));
                    }
                    _ => {}
                },
                Some(SessionEvent::Event(_)) => {}
                // Who asked before us may have been answered before we listened, and events may be missed.
                Some(SessionEvent::Missed(_)) | None => {
                    let path = format!("{PERIPHERAL}/{}", self.id);
                    match session
                        .execute(&QmpCommand::new("qom-list").with("path", path), limits::RUN_STATE_TIMEOUT)
                        .await
                    {
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
        event.data["device"] == self.id
    }
}

/// A device that is out of a machine.
struct Taken<'a> {
    device: &'a str,
    /// Whether this call saw it go.
    changed: bool,
    /// The start of the VM that it was part of.
    boot: BootNumber,
    removal: Removal,
}

impl Taken<'_> {
    /// Says what came of it.
    async fn done(self, app: &App, plugged: HotplugSession<'_>) -> Done<DeviceDeleted> {
        let HotplugSession { entry, run, guard, .. } = plugged;
        let Self { device, changed, boot, removal } = self;
        let deleted = DeviceDeleted {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            device: device.to_owned(),
            changed,
            back_end: removal.back_end,
            in_use: removal.in_use,
        };
        let data = json!({ "boot": boot, "device": deleted.device, "back_end": deleted.back_end });
        let event = app.committer().event(kind::DEVICE_REMOVED, &entry, data);
        // Of the run as it is now: others may have changed it while the guest was waited for.
        let (lost, left) = run.forwards.iter().copied().partition::<Vec<_>, _>(|port| removal.forwards.contains(port));
        if !lost.is_empty() {
            let run = Run { forwards: left, ..run };
            // The device is out all the same.
            if let Err(error) = app.committer().commit(ChangeSet::default().and(run_change(&entry, Some(run)))).await {
                tracing::warn!(vm = %entry.name, %error, "could not write down that ports lead to the guest no more");
            }
        }
        Done::reading(deleted).about(entry.id).event(event).holding(guard)
    }
}
