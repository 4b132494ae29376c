//! Pressing keys of a running VM.

use std::time::Duration;

use maqet_domain::keyboard::{Chord, DEVICE_PARENTS, accepts_keys, has_only_known_keyboards, is_keyboard};
use maqet_domain::port::{LockName, MonitorSession};
use maqet_domain::qmp::{QmpCommand, QmpError, RunState, children};
use maqet_domain::vm::{StopReason, VmEntry};
use serde::Deserialize;

use crate::input::keyboard_error::KeyboardError;
use crate::job::ProgressUnit;
use crate::limits::{self, MAX_KEY_INTERVAL, MIN_KEY_INTERVAL};
use crate::vm::ended::{VmEnded, stop_reason};
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration};

/// How keys are pressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyTiming {
    /// The pause after each key press and release.
    pub(crate) interval: Duration,
    /// The timeout for the keyboard and for each reply of QEMU.
    pub(crate) timeout: Duration,
}

impl KeyTiming {
    /// Checks the `interval` of the caller, if there is one.
    pub(crate) fn new(
        app: &App,
        interval: Option<HumanDuration>,
        default_interval: Duration,
        timeout: Option<HumanDuration>,
    ) -> Result<Self, KeyboardError> {
        let interval = interval.map_or(default_interval, HumanDuration::duration);
        if !(MIN_KEY_INTERVAL..=MAX_KEY_INTERVAL).contains(&interval) {
            return Err(KeyboardError::InvalidInterval { interval });
        }
        Ok(Self { interval, timeout: timeout.map_or(app.timeouts().qmp, HumanDuration::duration) })
    }
}

/// Presses chords one after the other, in one session, with exclusive use of the keyboard.
///
/// Returns once the last key is released. However this ends, QEMU releases what it has pressed.
pub(crate) async fn press_keys(
    app: &App,
    vm: &str,
    operation: &'static str,
    chords: &[Chord],
    timing: KeyTiming,
) -> Result<VmEntry, Error> {
    let vm = Monitored::find(app, vm).await?.with_timeout(timing.timeout);
    let name = &vm.entry.name;
    let total = chords.len();
    let job = app.jobs.start(operation, name);
    let lock_name = LockName::Keyboard(vm.entry.id);
    let lock = job.run(app.ports.locks.lock(&lock_name, operation, timing.timeout)).await?;
    let mut guard = lock.map_err(|source| KeyboardError::InUse { vm: name.clone(), source })?;
    // The lock file exists only while keys are pressed.
    guard.retire();
    let mut session = job.run(vm.session()).await??;
    if vm.or_unresponsive(job.run(is_without_keyboard(session.as_mut(), timing.timeout)).await?)? {
        return Err(KeyboardError::NotFound { vm: vm.entry.name }.into());
    }
    for (pressed, chord) in chords.iter().enumerate() {
        match job.run(press(session.as_mut(), chord, timing)).await? {
            Ok(state) if accepts_keys(state) => {}
            Ok(state) => return Err(not_accepted(app, &vm, state, (pressed, total)).await),
            Err(source) => {
                // The process may have been stopped meanwhile, which explains the failure.
                vm.ensure_responsive()?;
                return Err(KeyboardError::Failed { vm: vm.entry.name, pressed, total, source }.into());
            }
        }
        job.report(ProgressUnit::Keys, pressed as u64 + 1, total as u64);
    }
    match lost_before_last_key(app, session.as_mut(), &vm).await {
        Some(source) => Err(KeyboardError::Failed { vm: vm.entry.name, pressed: total, total, source }.into()),
        None => Ok(vm.entry),
    }
}

/// Returns the error of a VM that accepts no keys in this state.
async fn not_accepted(app: &App, vm: &Monitored<'_>, state: RunState, (pressed, total): (usize, usize)) -> Error {
    let name = vm.entry.name.clone();
    // It is exiting, unless it was started with `-no-shutdown`.
    if state == RunState::Shutdown
        && let Some(reason) = stop_reason(app, vm.entry.id).await
    {
        return VmEnded { vm: name, reason, source: None }.into();
    }
    let status = app.observer().observe(vm.entry.clone()).await.1.status;
    KeyboardError::Unavailable { vm: name, status, pressed, total }.into()
}

/// Returns the error of a QEMU that ended before it had pressed the last keys, which it does after it has replied.
///
/// A guest that has ended its VM itself, as by a panic on request, has read them.
async fn lost_before_last_key(app: &App, session: &mut dyn MonitorSession, vm: &Monitored<'_>) -> Option<QmpError> {
    let source = query_status(session, limits::QUERY_TIMEOUT).await.err().filter(QmpError::is_connection_loss)?;
    let is_read = match stop_reason(app, vm.entry.id).await? {
        StopReason::GuestShutdown
        | StopReason::GuestReset
        | StopReason::GuestPanic
        | StopReason::TripleFault
        | StopReason::DebugExit => true,
        StopReason::Watchdog
        | StopReason::HostReset
        | StopReason::HostQuit
        | StopReason::HostSignal
        | StopReason::OutOfMemory
        | StopReason::QemuError
        | StopReason::RestoreFailed
        | StopReason::Crashed
        | StopReason::HostReboot
        | StopReason::Unknown => false,
    };
    (!is_read).then_some(source)
}

/// Returns whether the VM certainly has no keyboard; QEMU would drop the keys silently.
async fn is_without_keyboard(session: &mut dyn MonitorSession, timeout: Duration) -> Result<bool, QmpError> {
    for parent in DEVICE_PARENTS {
        match session.execute(&QmpCommand::new("qom-list").with("path", parent), timeout).await {
            Ok(reply) if children(&reply).iter().any(|(_, kind)| is_keyboard(kind)) => return Ok(false),
            Ok(_) => {}
            // Nothing is known of a QEMU that has no such object.
            Err(QmpError::Refused { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    let machine = QmpCommand::new("qom-get").with("path", "/machine").with("property", "type");
    match session.execute(&machine, timeout).await {
        Ok(machine) => Ok(machine.as_str().is_some_and(has_only_known_keyboards)),
        Err(QmpError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the run state.
async fn query_status(session: &mut dyn MonitorSession, timeout: Duration) -> Result<RunState, QmpError> {
    #[derive(Deserialize)]
    struct QueryStatus {
        status: RunState,
    }

    let reply = session.execute(&QmpCommand::new("query-status"), timeout).await?;
    let QueryStatus { status } =
        QueryStatus::deserialize(reply).map_err(|error| QmpError::InvalidResponse { detail: error.to_string() })?;
    Ok(status)
}

/// Presses a chord if the VM runs, and waits until it is released; returns the run state.
async fn press(session: &mut dyn MonitorSession, chord: &Chord, timing: KeyTiming) -> Result<RunState, QmpError> {
    let status = query_status(session, timing.timeout).await?;
    if accepts_keys(status) {
        session.execute(&chord.press(timing.interval), timing.timeout).await?;
        // QEMU replies before the keys are pressed, and drops commands that its queue has no room for.
        tokio::time::sleep(chord.duration(timing.interval)).await;
    }
    Ok(status)
}
