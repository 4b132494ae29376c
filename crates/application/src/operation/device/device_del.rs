//! `qmp device-del`: unplugs a device from a running VM, and removes its backends.

use std::time::Duration;

use derive_setters::Setters;
use maqet_domain::change::ChangeSet;
use maqet_domain::event::kind;
use maqet_domain::hotplug::{
    BootDevices, DeviceError, DeviceOrigin, PluggedDevice, UnplugStep, device_not_found, plan_device_del,
};
use maqet_domain::port::{MonitorSession, SessionEvent};
use maqet_domain::qmp::wording::{UnplugRefusal, unplug_refusal};
use maqet_domain::qmp::{ErrorClass, QmpCommand, QmpError, QmpEvent, RunState};
use maqet_domain::vm::{BootNumber, MonitorAnswer, Run, VmEntry};
use maqet_fault_points::FaultPoint;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use crate::app::commit::run_change;
use crate::app::operations::{Done, Effect, Operation};
use crate::device::backend_removal::Removal;
use crate::device::session::{HotplugSession, PERIPHERAL};
use crate::vm::monitor::Monitored;
use crate::vm::unresponsive::explain_unresponsive;
use crate::{App, Error, HumanDuration, limits};

/// Unplug a device from a running VM
///
/// Asks the guest to release the device, waits until it has done so, and removes the backend that `device-add` created.
/// After a timeout, the guest may still release the device; run the command again to check, and to remove the backend. A
/// drive or network card of the definition is removed with its backend, until the next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct QmpDeviceDel {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub vm: String,
    /// The ID of the device, or the name of a drive or network card in the definition
    #[cfg_attr(feature = "clap", arg(value_name = "ID"))]
    pub device: String,
    /// Timeout for the guest [default: `timeouts.qmp`, else 30s]
    #[cfg_attr(feature = "clap", arg(long, value_name = "DURATION"))]
    pub timeout: Option<HumanDuration>,
}

/// A device that was removed.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeviceDeleted {
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// The ID of the device.
    pub device: String,
    /// Whether this call unplugged it; `false` if only its backend was left.
    pub changed: bool,
    /// The block node or network backend that was removed with it.
    pub backend: Option<String>,
    /// A backend that something else uses, such as a block job.
    pub in_use: Option<String>,
}

impl QmpDeviceDel {
    /// Unplugs `device`.
    pub fn new(vm: impl Into<String>, device: impl Into<String>) -> Self {
        Self { vm: vm.into(), device: device.into(), timeout: None }
    }
}

impl Operation for QmpDeviceDel {
    const NAME: &'static str = "qmp.device-del";
    const EFFECT: Effect = Effect::Acts;
    type Output = DeviceDeleted;

    async fn run(&self, app: &App) -> Result<Done<DeviceDeleted>, Error> {
        // Boxed, as it holds a session, which makes it large.
        match Box::pin(self.unplug_device(app)).await {
            Ok(done) => Ok(done),
            Err(error) => Err(explain_unresponsive(app, &self.vm, error).await),
        }
    }
}

impl QmpDeviceDel {
    async fn unplug_device(&self, app: &App) -> Result<Done<DeviceDeleted>, Error> {
        let timeout = self.timeout.map_or(app.timeouts().qmp, HumanDuration::duration);
        let until = Instant::now() + timeout;
        let (guard, vm) = app.vms().lock(&self.vm, Self::NAME).await?;
        let session = HotplugSession::open(app, guard, &vm).await?;
        let plugged = session.devices().await?;
        let boot = session.vm.boot_devices();
        for step in plan_device_del(&session.vm.entry.name, &self.device, &plugged, &boot)? {
            match step {
                UnplugStep::Unplug(id) => {
                    let request = UnplugRequest { id: &id, timeout, until };
                    // It holds a session, and would make the futures of its callers large.
                    let (session, unplugged) = Box::pin(unplug(app, session, &request, &boot)).await?;
                    return Ok(unplugged.done(app, session).await);
                }
                UnplugStep::RemoveBackends(id) => {
                    let backends = boot.backends(&id);
                    let mut removal = session.remove_backends(&backends).await?;
                    if let Some(backend) = &removal.in_use
                        && session.user_of_backend(backend).await?.is_none_or(|user| user.device.is_none())
                    {
                        // Another client has just unplugged the device, and QEMU uses it for another moment.
                        removal = session.remove_backends_soon(&backends).await?;
                    }
                    if removal.backend.is_some() {
                        let unplugged = Unplugged { device: id, changed: false, boot: session.vm.run.boot, removal };
                        return Ok(unplugged.done(app, session).await);
                    }
                    if let Some(id) = removal.in_use {
                        let user = session.user_of_backend(&id).await?.and_then(|user| user.device);
                        return Err(DeviceError::BackendInUse { vm: session.vm.entry.name, id, user }.into());
                    }
                }
            }
        }
        Err(not_found(&session, &self.device, &plugged, &boot).await?.into())
    }
}

/// Returns the error of a name that is not that of a device.
async fn not_found(
    session: &HotplugSession<'_>,
    name: &str,
    plugged: &[PluggedDevice],
    boot: &BootDevices,
) -> Result<DeviceError, QmpError> {
    let vm = &session.vm.entry.name;
    let paths = session.anonymous_devices(name).await?;
    if !paths.is_empty() {
        return Ok(DeviceError::IdRequired { vm: vm.clone(), driver: name.to_owned(), paths });
    }
    if let Some(user) = session.user_of_backend(name).await? {
        return Ok(DeviceError::IsBackend { vm: vm.clone(), id: name.to_owned(), user: user.device });
    }
    Ok(device_not_found(vm, name, plugged, boot))
}

/// Unplugs a device, and removes its backends.
///
/// The lock is released while the guest is waited for, which may take long and can be canceled. The guest may then still
/// release the device, as after a timeout; once it has, canceling waits until the backends are removed.
async fn unplug<'a>(
    app: &'a App,
    session: HotplugSession<'a>,
    request: &UnplugRequest<'_>,
    boot: &BootDevices,
) -> Result<(HotplugSession<'a>, Unplugged), Error> {
    let HotplugSession { vm, guard, .. } = session;
    let job = app.jobs.start(QmpDeviceDel::NAME, &vm.entry.name);
    let ask = async {
        // Opened before the command is sent, so that no event is missed.
        let mut monitor = vm.session().await?;
        let sent = request.send(monitor.as_mut(), app.timeouts().qmp).await;
        sent.map_err(|error| request.send_error(&vm.entry, boot, error))?;
        drop(guard);
        Ok::<_, Error>(request.wait(monitor.as_mut()).await)
    };
    let answer = job.run(ask).await??;
    let Monitored { entry, run, .. } = vm;
    request.check(app, &entry, &run, answer).await?;
    app.faults.reach(FaultPoint::DeviceGone);
    // By id, as the name may have changed meanwhile.
    let (guard, vm) = job.run(app.vms().lock(&entry.id.to_string(), QmpDeviceDel::NAME)).await??;
    let session = HotplugSession::open(app, guard, &vm).await?;
    // The backends ended with their run, and the next one has all of its devices.
    let removal = if session.vm.run.boot == run.boot {
        session.remove_backends_soon(&boot.backends(request.id)).await?
    } else {
        Removal::default()
    };
    Ok((session, Unplugged { device: request.id.to_owned(), changed: true, boot: run.boot, removal }))
}

/// A request to the guest to release a device.
struct UnplugRequest<'a> {
    id: &'a str,
    timeout: Duration,
    until: Instant,
}

/// The answer to such a request.
enum Answer {
    Released,
    Refused(Option<String>),
    None,
}

impl UnplugRequest<'_> {
    /// Sends the request; an earlier one that is not answered yet will do.
    async fn send(&self, monitor: &mut dyn MonitorSession, timeout: Duration) -> Result<(), QmpError> {
        match monitor.execute(&QmpCommand::new("device_del").with("id", self.id), timeout).await {
            Err(error) if error.refusal().map(unplug_refusal) == Some(UnplugRefusal::Pending) => Ok(()),
            // Released since it was looked up, on the request of another command; the wait finds it gone.
            Err(QmpError::Refused { class: ErrorClass::DeviceNotFound, .. }) => Ok(()),
            reply => reply.map(drop),
        }
    }

    fn send_error(&self, entry: &VmEntry, boot: &BootDevices, error: QmpError) -> Error {
        match error {
            QmpError::Refused { description: reason, .. } if unplug_refusal(&reason) == UnplugRefusal::Unsupported => {
                let origin = if boot.has_device(self.id) { DeviceOrigin::Definition } else { DeviceOrigin::Hotplug };
                let vm = entry.name.clone();
                DeviceError::UnplugUnsupported { vm, id: self.id.to_owned(), reason, origin }.into()
            }
            error => error.into(),
        }
    }

    /// Waits for the answer of the guest.
    async fn wait(&self, monitor: &mut dyn MonitorSession) -> Result<Answer, QmpError> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now()).min(limits::UNPLUG_INTERVAL);
            match monitor.next_event(left).await? {
                Some(SessionEvent::Event(event)) => {
                    if let Some(answer) = self.answer(&event) {
                        return Ok(answer);
                    }
                }
                // The answer to an earlier request may have come before this session, and events may be missed.
                Some(SessionEvent::Missed(_)) | None => {
                    let query = QmpCommand::new("qom-list").with("path", format!("{PERIPHERAL}/{}", self.id));
                    match monitor.execute(&query, limits::QUERY_TIMEOUT).await {
                        Err(QmpError::Refused { .. }) => return Ok(Answer::Released),
                        Ok(_) | Err(QmpError::TimedOut { .. }) => {}
                        Err(error) => return Err(error),
                    }
                    if Instant::now() >= self.until {
                        return Ok(Answer::None);
                    }
                }
            }
        }
    }

    /// Returns the answer in an event, if it is one.
    fn answer(&self, event: &QmpEvent) -> Option<Answer> {
        if event.data["device"] != self.id {
            return None;
        }
        match event.name.as_str() {
            "DEVICE_DELETED" => Some(Answer::Released),
            "DEVICE_UNPLUG_GUEST_ERROR" | "MEM_UNPLUG_ERROR" => {
                Some(Answer::Refused(event.data["msg"].as_str().map(str::to_owned)))
            }
            _ => None,
        }
    }

    /// Returns an error unless the device was released.
    async fn check(
        &self,
        app: &App,
        entry: &VmEntry,
        run: &Run,
        answer: Result<Answer, QmpError>,
    ) -> Result<(), Error> {
        let vm = entry.name.clone();
        let id = self.id.to_owned();
        Err(match answer {
            Ok(Answer::Released) => return Ok(()),
            Ok(Answer::Refused(reason)) => DeviceError::UnplugRefused { vm, id, reason }.into(),
            Ok(Answer::None) => {
                let state = app.ports.monitors.answer(&run.paths, limits::QUERY_TIMEOUT).await;
                let is_paused = matches!(state, MonitorAnswer::State(state) if state != RunState::Running);
                DeviceError::UnplugTimedOut { vm, id, after: self.timeout, is_paused }.into()
            }
            Err(error) => error.into(),
        })
    }
}

/// A device that was unplugged, or only its backends were left.
struct Unplugged {
    device: String,
    /// Whether this call unplugged it.
    changed: bool,
    /// The boot of the VM that it was part of.
    boot: BootNumber,
    removal: Removal,
}

impl Unplugged {
    /// Records that forwards are gone, and returns the result.
    async fn done(self, app: &App, session: HotplugSession<'_>) -> Done<DeviceDeleted> {
        let HotplugSession { vm: Monitored { entry, run, .. }, guard, .. } = session;
        let Self { device, changed, boot, removal } = self;
        let deleted = DeviceDeleted {
            id: entry.id.to_string(),
            name: entry.name.to_string(),
            device,
            changed,
            backend: removal.backend,
            in_use: removal.in_use,
        };
        let data = json!({ "boot": boot, "device": deleted.device, "backend": deleted.backend });
        let event = app.committer().event(kind::DEVICE_REMOVED, &entry, data);
        // Of the current run, which may have changed while the guest was waited for.
        let (gone, left) =
            run.forwards.iter().copied().partition::<Vec<_>, _>(|forward| removal.forwards.contains(forward));
        if !gone.is_empty() {
            let run = Run { forwards: left, ..run };
            // The device is removed in any case.
            if let Err(error) = app.committer().commit(ChangeSet::default().and(run_change(&entry, Some(run)))).await {
                tracing::warn!(vm = %entry.name, %error, "cannot record that forwards are gone");
            }
        }
        Done::reading(deleted).about(entry.id).event(event).holding(guard)
    }
}
