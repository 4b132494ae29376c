//! `wait`: waits until conditions of a VM are met.

use std::time::Duration;

use derive_setters::Setters;
use maqet_domain::vm::{RunPaths, Status, Vm, VmEntry, VmId};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};

use crate::app::operations::{Done, Effect, Operation};
use crate::job::{Job, ProgressUnit};
use crate::log::keeper::LogKeeper;
use crate::vm::observe::{Observation, VmStatus};
use crate::wait::condition::Condition;
use crate::wait::error::{HaltedVm, LastLines, WaitError};
use crate::wait::guest_progress::GuestReport;
use crate::wait::since::WaitSince;
use crate::wait::watcher::Watcher;
use crate::{App, Error, HumanDuration, limits};

/// Waits until conditions of a VM are met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Setters)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
#[setters(into)]
pub struct Wait {
    /// The VM: a name, an ID, or a unique prefix of an ID.
    pub vm: String,
    /// The conditions; one that was met once stays met.
    #[serde(rename = "for")]
    pub conditions: Vec<Condition>,
    /// Whether one of them is enough.
    #[serde(default)]
    pub any: bool,
    /// How long to wait.
    pub timeout: Option<HumanDuration>,
    /// Since when events and serial output count; by default events from now on, and serial output since the start of
    /// the VM.
    pub since: Option<WaitSince>,
    /// The boot whose end to wait for as well: the VM may have been started again meanwhile.
    pub boot: Option<u32>,
}

impl Wait {
    /// Waits until all `conditions` of the VM `vm` are met.
    pub fn new(vm: impl Into<String>, conditions: Vec<Condition>) -> Self {
        Self { vm: vm.into(), conditions, any: false, timeout: None, since: None, boot: None }
    }
}

/// The conditions that were met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Waited {
    /// The VM's state afterward.
    #[serde(flatten)]
    pub vm: VmStatus,
    /// The conditions that were met.
    pub met: Vec<Condition>,
    /// How long that took, in milliseconds.
    pub waited_ms: u64,
    /// What the guest says about the conditions.
    #[serde(skip_serializing_if = "GuestReport::is_empty")]
    pub guest: GuestReport,
}

impl Operation for Wait {
    const NAME: &'static str = "wait";
    /// A run that ended unobserved is recorded in passing.
    const EFFECT: Effect = Effect::Acts;
    type Output = Waited;

    async fn run(&self, app: &App) -> Result<Done<Waited>, Error> {
        if self.conditions.is_empty() {
            return Err(WaitError::ConditionRequired.into());
        }
        let began = Instant::now();
        let timeout = self.timeout.map_or(app.timeouts().wait, HumanDuration::duration);
        let now = app.ports.clock.now();
        let entry = app.vms().find(&self.vm).await?.entry;
        let since = WaitSince::events(self.since, now, entry.run.as_ref());
        let serial = WaitSince::serial(self.since, now);
        let watch = |condition| Watcher::new(app, condition, since, serial);
        let watchers: Vec<Watcher<'_>> = self.conditions.iter().map(watch).collect();

        let job = app.jobs.start(Self::NAME, &entry.name);
        let (vm, met, guest) =
            job.run(Box::pin(self.wait(app, &job, entry.id, watchers, (timeout, began + timeout)))).await??;
        let waited_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(Done::reading(Waited { vm, met, waited_ms, guest }).about(entry.id))
    }
}

impl Wait {
    /// Checks the conditions until enough are met; returns the VM's state and those conditions.
    async fn wait(
        &self,
        app: &App,
        job: &Job<'_>,
        id: VmId,
        mut watchers: Vec<Watcher<'_>>,
        (timeout, deadline): (Duration, Instant),
    ) -> Result<(VmStatus, Vec<Condition>, GuestReport), Error> {
        let mut rounds: u32 = 0;
        let keeper = LogKeeper::new(app);
        loop {
            let vm = app.ports.store.by_id(&id).await?;
            let entry = vm.ok_or_else(|| Error::NoSuchVm { name: self.vm.clone(), similar: Vec::new() })?.entry;
            if self.is_over(&entry) {
                let (entry, observation) = app.observer().observe(entry).await;
                return Ok((VmStatus::new(&entry, &observation), Vec::new(), GuestReport::default()));
            }
            // The conditions do not show that the guest is halted.
            rounds += 1;
            let is_close = self.is_for_the_end() || rounds.is_multiple_of(limits::WAIT_ROUNDS_PER_QUERY);
            let checked = self.check(app, &entry, &mut watchers, (is_close, deadline)).await?;
            let met = watchers.iter().filter(|watcher| watcher.is_met);
            if let Some(vm) = checked {
                let conditions = met.map(|watcher| watcher.condition.clone()).collect();
                let mut report = GuestReport::default();
                watchers.into_iter().filter(|one| one.is_met).for_each(|one| report.add(one.into_report()));
                return Ok((vm, conditions, report));
            }
            if Instant::now() >= deadline {
                return Err(self.timed_out(app, &entry, &watchers, timeout).await.into());
            }
            if let Some(run) = entry.open_run().filter(|_| keeper.is_due()) {
                keeper.keep_delivered(&app.reconciler(), &id, &run.paths).await;
            }
            job.report(ProgressUnit::Conditions, met.count() as u64, watchers.len() as u64);
            match entry.open_run().and_then(|run| run.process.as_ref()).filter(|_| self.is_for_the_end()) {
                Some(process) if app.ports.processes.is_alive(process) => {
                    let longest = deadline.saturating_duration_since(Instant::now()).min(limits::WAIT_END_INTERVAL);
                    app.ports.processes.wait_for_exit(process, longest).await;
                }
                Some(_) | None => sleep(limits::WAIT_INTERVAL).await,
            }
        }
    }

    /// Returns whether the VM was started again since the boot that this is about.
    fn is_over(&self, entry: &VmEntry) -> bool {
        let boot = entry.run.as_ref().map(|run| run.boot.0);
        self.boot.is_some_and(|expected| boot != Some(expected))
    }

    /// Returns whether only the end of QEMU can meet a condition, which its process tells at once.
    fn is_for_the_end(&self) -> bool {
        self.conditions.iter().all(|condition| matches!(condition, Condition::Stopped(_)))
    }

    async fn timed_out(&self, app: &App, entry: &VmEntry, watchers: &[Watcher<'_>], after: Duration) -> WaitError {
        let unmet = watchers.iter().filter(|watcher| !watcher.is_met).map(|watcher| watcher.condition.to_string());
        let (entry, observation) = &app.observer().observe(entry.clone()).await;
        WaitError::TimedOut {
            vm: entry.name.clone(),
            unmet: unmet.collect(),
            any: self.any,
            after: HumanDuration::new(after),
            unresponsive: observation.unresponsive(entry).map(Box::new),
            halted: observation
                .halted
                .map(|_| HaltedVm { state: observation.described(), hint: observation.hint(&entry.name) }),
            source: last_lines(app, entry).await,
        }
    }

    /// Observes the VM; queries its monitor only if `is_close` or a condition needs the status, because this runs many
    /// times a second.
    async fn observe(&self, app: &App, entry: &VmEntry, is_close: bool) -> (VmEntry, Observation) {
        if !is_close && !self.conditions.iter().any(|condition| matches!(condition, Condition::Status(_))) {
            let observation = app.observer().observe_process(entry).await;
            if observation.process.is_some() {
                return (entry.clone(), observation);
            }
        }
        // An operation may hold the lock and be about to start the VM.
        app.observer().observe(entry.clone()).await
    }

    /// Checks every condition that is not met yet; returns the VM's state once enough are.
    async fn check(
        &self,
        app: &App,
        entry: &VmEntry,
        watchers: &mut [Watcher<'_>],
        (is_close, deadline): (bool, Instant),
    ) -> Result<Option<VmStatus>, Error> {
        let (entry, observation) = &self.observe(app, entry, is_close).await;
        if is_being_recorded(app, entry, observation).await? {
            return Ok(None);
        }
        for watcher in watchers.iter_mut().filter(|watcher| !watcher.is_met) {
            // The caller reports the timeout.
            let Ok(checked) = timeout_at(deadline, watcher.check(entry, observation)).await else { return Ok(None) };
            checked?;
        }
        let mut met = watchers.iter().map(|watcher| watcher.is_met);
        let is_enough = if self.any { met.any(|is_met| is_met) } else { met.all(|is_met| is_met) };
        if is_enough {
            let (entry, observation) = app.observer().observe(entry.clone()).await;
            return Ok(Some(VmStatus::new(&entry, &observation)));
        }
        if !observation.status.is_live() {
            app.reconciler().reconcile_if_needed(entry).await;
        }
        let mut unmet = watchers.iter().filter(|watcher| !watcher.is_met);
        let is_hopeless = |watcher: &&Watcher<'_>| watcher.is_hopeless(observation.status);
        let can_still_be_met = unmet.clone().any(|watcher| !is_hopeless(&watcher));
        match unmet.find(is_hopeless) {
            Some(watcher) if !self.any || !can_still_be_met => {
                Err(unavailable(app, entry, observation, watcher.condition).await.into())
            }
            Some(_) | None => Ok(None),
        }
    }
}

/// Returns whether QEMU ended and another process is about to record how: without that, a VM that was stopped on purpose
/// would be taken for one that crashed.
async fn is_being_recorded(app: &App, entry: &VmEntry, observation: &Observation) -> Result<bool, Error> {
    if observation.process.is_some() || entry.open_run().is_none() {
        return Ok(false);
    }
    // The process that stopped it may have recorded that since it was read.
    let is_outdated = |vm: Option<Vm>| vm.is_none_or(|vm| vm.entry.run != entry.run);
    Ok(observation.busy.is_some() || is_outdated(app.ports.store.by_id(&entry.id).await?))
}

/// Returns the error of a condition that a VM in this state cannot meet.
async fn unavailable(app: &App, entry: &VmEntry, observation: &Observation, condition: &Condition) -> WaitError {
    // The end may be recorded meanwhile, without its details.
    let state = app.observer().observe_closely(entry.clone()).await.1.described();
    let (vm, condition) = (entry.name.clone(), condition.to_string());
    let source = last_lines(app, entry).await;
    match (observation.status, condition.starts_with("stopped")) {
        (Status::Stopped(_), true) => WaitError::UnexpectedEnd { vm, state, condition, source },
        (status, _) => WaitError::VmUnavailable { vm, status, state, condition, source },
    }
}

/// Returns the end of the guest's serial log.
async fn last_lines(app: &App, entry: &VmEntry) -> LastLines {
    let Some(log) = entry.run.as_ref().map(|run| RunPaths::serial_log(&run.paths)) else {
        return LastLines::default();
    };
    let Ok(whole) = app.ports.records.read(&log, 0, 0).await else { return LastLines::default() };
    let start = whole.length.saturating_sub(limits::SERIAL_TAIL_BYTES);
    let tail = app.ports.records.read(&log, start, limits::SERIAL_WINDOW_BYTES).await.unwrap_or_default();
    LastLines::new(&String::from_utf8_lossy(&tail.bytes), limits::SERIAL_TAIL_LINES)
}
