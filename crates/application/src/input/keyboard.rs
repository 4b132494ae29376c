//! Pressing keys of a running VM.

use std::time::Duration;

use maqet_domain::keyboard::{Chord, accepts_keys};
use maqet_domain::port::{LockName, MonitorSession};
use maqet_domain::qmp::{QmpCommand, QmpError, RunState};
use maqet_domain::vm::VmEntry;
use serde::Deserialize;

use crate::input::keyboard_error::KeyboardError;
use crate::job::ProgressUnit;
use crate::limits::{MAX_KEY_INTERVAL, MIN_KEY_INTERVAL};
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
    for (pressed, chord) in chords.iter().enumerate() {
        match job.run(press(session.as_mut(), chord, timing)).await? {
            Ok(state) if accepts_keys(state) => {}
            Ok(_) => {
                let status = app.observer().observe(&vm.entry).await.status;
                return Err(KeyboardError::Unavailable { vm: vm.entry.name, status, pressed, total }.into());
            }
            Err(source) => {
                // The process may have been stopped meanwhile, which explains the failure.
                vm.ensure_responsive()?;
                return Err(KeyboardError::Failed { vm: vm.entry.name, pressed, total, source }.into());
            }
        }
        job.report(ProgressUnit::Keys, pressed as u64 + 1, total as u64);
    }
    Ok(vm.entry)
}

/// Presses a chord if the VM runs, and waits until it is released; returns the run state.
async fn press(session: &mut dyn MonitorSession, chord: &Chord, timing: KeyTiming) -> Result<RunState, QmpError> {
    #[derive(Deserialize)]
    struct QueryStatus {
        status: RunState,
    }

    let reply = session.execute(&QmpCommand::new("query-status"), timing.timeout).await?;
    let QueryStatus { status } =
        QueryStatus::deserialize(reply).map_err(|error| QmpError::InvalidResponse { detail: error.to_string() })?;
    if accepts_keys(status) {
        session.execute(&chord.press(timing.interval), timing.timeout).await?;
        // QEMU replies before the keys are pressed, and drops commands that its queue has no room for.
        tokio::time::sleep(chord.duration(timing.interval)).await;
    }
    Ok(status)
}
