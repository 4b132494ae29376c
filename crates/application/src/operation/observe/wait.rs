//! `wait`: until something about a VM comes true.

use std::time::Duration;

use maqet_domain::vm::{RunPaths, VmEntry};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use super::Since;
use crate::app::operations::{Done, Effect, Operation};
use crate::vm::observe::{Observation, VmStatus};
use crate::wait::condition::Condition;
use crate::wait::error::{LastLines, WaitError};
use crate::wait::watcher::Watcher;
use crate::{App, Error, HumanDuration, limits};

/// Waits until conditions about a VM come true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// What is waited for; each counts once it was true.
    #[serde(rename = "for")]
    pub conditions: Vec<Condition>,
    /// Whether one of them is enough.
    #[serde(default)]
    pub any: bool,
    /// How long is waited.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
    /// From when on events count; from now on if it is left out.
    #[serde(default)]
    pub since: Option<Since>,
}

/// What came true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waited {
    /// The VM's state afterwards.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// The conditions that came true.
    pub met: Vec<Condition>,
    /// How long that took, in milliseconds.
    pub waited_ms: u64,
}

impl Operation for Wait {
    const NAME: &'static str = "wait";
    /// The end of a machine that nobody saw is written down in passing.
    const EFFECT: Effect = Effect::Acts;
    type Output = Waited;

    async fn run(&self, app: &App) -> Result<Done<Waited>, Error> {
        if self.conditions.is_empty() {
            return Err(WaitError::ConditionRequired.into());
        }
        let began = Instant::now();
        let patience = self.timeout.map_or(app.timeouts().wait, HumanDuration::duration);
        let now = app.ports.clock.now();
        let since = self.since.map_or(now, |since| since.moment(now));
        let mut watches: Vec<Watcher<'_>> =
            self.conditions.iter().map(|condition| Watcher::new(app, condition, since)).collect();

        let id = app.vm(&self.vm).await?.entry.id;
        let until = began + patience;
        loop {
            let vm = app.ports.store.by_id(&id).await?;
            let entry = vm.ok_or_else(|| Error::NoSuchVm { name: self.vm.clone(), similar: Vec::new() })?.entry;
            if let Some(vm) = self.observe(app, &entry, &mut watches, until).await? {
                let met = watches.iter().filter(|watch| watch.is_met).map(|watch| watch.condition.clone()).collect();
                let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                return Ok(Done::reading(Waited { vm, met, waited_ms }).about(id));
            }
            if Instant::now() >= until {
                return Err(timed_out(app, &entry, &watches, patience).await.into());
            }
            sleep(limits::WAIT_INTERVAL).await;
        }
    }
}

impl Wait {
    /// Looks at the VM; its monitor is asked only if a state is waited for, as it is looked at many times a second.
    async fn seen(&self, app: &App, entry: &VmEntry) -> Observation {
        if !self.conditions.iter().any(|condition| matches!(condition, Condition::Status(_))) {
            let seen = app.observer().observe_process(entry).await;
            if seen.process.is_some() {
                return seen;
            }
        }
        // A start may go on behind the lock; until it has a process, it may well come.
        app.observer().observe(entry).await
    }

    /// Looks once at everything that has not come true; returns the VM's state once it is enough.
    async fn observe(
        &self,
        app: &App,
        entry: &VmEntry,
        watches: &mut [Watcher<'_>],
        until: Instant,
    ) -> Result<Option<VmStatus>, Error> {
        let seen = self.seen(app, entry).await;
        for watch in watches.iter_mut().filter(|watch| !watch.is_met) {
            // Out of time: the caller says so.
            let Ok(looked) = timeout_at(until, watch.observe(entry, &seen)).await else { return Ok(None) };
            looked?;
        }
        let mut met = watches.iter().map(|watch| watch.is_met);
        let is_enough = if self.any { met.any(|is_met| is_met) } else { met.all(|is_met| is_met) };
        if is_enough {
            return Ok(Some(VmStatus::new(entry, &app.observer().observe(entry).await)));
        }
        if seen.status.is_live() {
            return Ok(None);
        }
        app.reconciler().reconcile_if_needed(entry).await;
        let mut lost = watches.iter().filter(|watch| !watch.is_met && watch.needs_life());
        let hopes = watches.iter().any(|watch| !watch.is_met && !watch.needs_life());
        match lost.next() {
            Some(watch) if !self.any || !hopes => Err(WaitError::VmUnavailable {
                vm: entry.name.clone(),
                status: seen.status,
                condition: watch.condition.to_string(),
                source: last_lines(app, entry).await,
            }
            .into()),
            Some(_) | None => Ok(None),
        }
    }
}

async fn timed_out(app: &App, entry: &VmEntry, watches: &[Watcher<'_>], after: Duration) -> WaitError {
    let unmet = watches.iter().filter(|watch| !watch.is_met).map(|watch| watch.condition.to_string()).collect();
    let unresponsive = app.observer().observe(entry).await.unresponsive(entry).map(Box::new);
    let after = HumanDuration::new(after);
    WaitError::TimedOut { vm: entry.name.clone(), unmet, after, unresponsive, source: last_lines(app, entry).await }
}

/// Returns the end of what the guest wrote to its serial port.
async fn last_lines(app: &App, entry: &VmEntry) -> LastLines {
    let paths: Option<&RunPaths> = entry.run.as_ref().map(|run| &run.paths);
    let Some(log) = paths.map(RunPaths::serial_log) else { return LastLines::default() };
    let Ok(whole) = app.ports.records.read(&log, 0, 0).await else { return LastLines::default() };
    let from = whole.length.saturating_sub(limits::SERIAL_TAIL_BYTES);
    let tail = app.ports.records.read(&log, from, limits::SERIAL_WINDOW_BYTES).await.unwrap_or_default();
    LastLines::new(&String::from_utf8_lossy(&tail.bytes), limits::SERIAL_TAIL_LINES)
}
