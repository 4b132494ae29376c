//! Pressing the keys of a running machine.

use std::time::Duration;

use maqet_domain::keyboard::{Chord, hears_keys};
use maqet_domain::port::{LockName, MonitorSession};
use maqet_domain::qmp::RunState;
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::vm::VmEntry;
use serde::Deserialize;

use crate::input::keyboard_error::KeyboardError;
use crate::job::progress::Progress;
use crate::limits::{KEY_EDGE_LONGEST, KEY_EDGE_SHORTEST};
use crate::vm::monitor::Monitored;
use crate::{App, Error, HumanDuration};

/// How keys are pressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Touch {
    /// The pause after each key that goes down or up.
    pub(crate) edge: Duration,
    /// How long to wait for the keyboard and for each answer of QEMU.
    pub(crate) patience: Duration,
}

impl Touch {
    /// Checks what was given; `edge` is for those who gave none.
    pub(crate) fn new(
        app: &App,
        given: Option<HumanDuration>,
        edge: Duration,
        patience: Option<HumanDuration>,
    ) -> Result<Self, KeyboardError> {
        let edge = given.map_or(edge, HumanDuration::duration);
        if !(KEY_EDGE_SHORTEST..=KEY_EDGE_LONGEST).contains(&edge) {
            return Err(KeyboardError::Hold { given: edge });
        }
        Ok(Self { edge, patience: patience.map_or(app.timeouts().qmp, HumanDuration::duration) })
    }
}

impl App {
    /// Presses chords one after the other, in one session with the machine's QEMU, and nobody else's in between.
    ///
    /// Returns once the last key is up. Whenever this ends, by an error or because its future was dropped, QEMU
    /// releases by itself what it has pressed.
    pub(crate) async fn press_keys(
        &self,
        vm: &str,
        operation: &'static str,
        chords: &[Chord],
        touch: Touch,
    ) -> Result<VmEntry, Error> {
        let Monitored { entry, run, process } = self.monitored(vm).await?;
        let cut = |pressed, source| KeyboardError::Cut { vm: entry.name.clone(), pressed, total: chords.len(), source };
        let mut turn = self
            .ports
            .locks
            .lock(&LockName::Keyboard(entry.id), operation, touch.patience)
            .await
            .map_err(|source| KeyboardError::Taken { vm: entry.name.clone(), source })?;
        // It is there only while somebody types.
        turn.retire();
        let mut session = self.ports.monitors.session(&run.paths, touch.patience).await?;
        for (pressed, chord) in chords.iter().enumerate() {
            match press(session.as_mut(), chord, touch).await {
                Ok(state) if hears_keys(state) => {}
                Ok(_) => {
                    let status = self.observe(&entry).await.status;
                    let (vm, total) = (entry.name.clone(), chords.len());
                    return Err(KeyboardError::StandsStill { vm, status, pressed, total }.into());
                }
                Err(source) => {
                    // It may have been stopped meanwhile, and then nothing else tells why.
                    self.ensure_responsive(&entry.name, &process)?;
                    return Err(cut(pressed, source).into());
                }
            }
            let (vm, done, total) = (&entry.name, pressed + 1, chords.len());
            self.progress.tell(|| Progress { operation, vm: vm.clone(), done, total });
        }
        Ok(entry)
    }
}

/// Presses a chord if the machine runs, and waits until it is pressed; returns the state of the machine.
async fn press(session: &mut dyn MonitorSession, chord: &Chord, touch: Touch) -> Result<RunState, QmpError> {
    #[derive(Deserialize)]
    struct QueryStatus {
        status: RunState,
    }

    let told = session.execute(&QmpCommand::new("query-status"), touch.patience).await?;
    let QueryStatus { status } =
        QueryStatus::deserialize(told).map_err(|why| QmpError::Garbled { detail: why.to_string() })?;
    if hears_keys(status) {
        session.execute(&chord.press(touch.edge), touch.patience).await?;
        // QEMU answers at once and presses in its own time; what comes before that is done waits in a queue that
        // drops what it has no room for.
        tokio::time::sleep(chord.takes(touch.edge)).await;
    }
    Ok(status)
}
