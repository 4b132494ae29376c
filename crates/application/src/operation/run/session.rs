//! A run from the start of QEMU to the removal of the VM.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, join, select};
use maqet_domain::guest::copy::CopyPlace;
use maqet_domain::guest::{BootStage, ProcessSignal};
use maqet_domain::text::{escape_control, truncated};
use maqet_domain::vm::VmEntry;
use tokio::time::{Instant, timeout};

use super::super::guest::{Copied, Cp, Exec, ExecResult};
use super::super::observe::Wait;
use super::super::vm::{Start, Started};
use super::concluded::{Concluded, Stop};
use super::relay::Relay;
use super::{KeepVm, Run, RunCopy, RunOutcome, RunPhase, RunResult, RunStep};
use crate::app::operations::Operation;
use crate::guest::error::ExecError;
use crate::guest::streams::ExecStreams;
use crate::job::Job;
use crate::operation::ForkNetwork;
use crate::operation::Since;
use crate::operation::checkpoint::fork::making::{ForkOptions, start_defined};
use crate::report::ErrorReport;
use crate::template::Template;
use crate::throw_away::{Lifetime, keep, remove};
use crate::wait::condition::Condition;
use crate::wait::error::LastLines;
use crate::wait::since::WaitSince;
use crate::{App, Error, HumanDuration, limits};

/// What the Linux kernel writes when it panics, before what it was doing.
const KERNEL_PANIC: &str = "Kernel panic - not syncing";

/// A run that is under way, in a VM that is defined.
pub(super) struct Session<'a> {
    app: &'a App,
    run: &'a Run,
    vm: VmEntry,
    /// What the VM goes on from, instead of booting.
    template: Option<Template>,
    job: Job<'a>,
    relay: Option<Arc<Relay>>,
    steps: Vec<RunStep>,
    phase: RunPhase,
    /// Whether the guest has booted.
    is_up: bool,
    copied: Vec<Copied>,
    collected: Vec<Copied>,
}

impl Run {
    /// Returns whether the command is to have a terminal.
    pub(super) fn has_terminal(&self) -> bool {
        self.streams.as_ref().is_some_and(|streams| streams.terminal().is_some())
    }

    /// Returns the operation that runs the command in a VM.
    pub(super) fn exec(&self, vm: &str) -> Exec {
        Exec::new(vm, self.command.clone())
            .user(self.user.clone())
            .directory(self.directory.clone())
            .environment(self.environment.clone())
            .input(self.input.clone())
            .timeout(self.timeout)
            .kill_after(self.kill_after)
            .merge(self.merge)
            .via(self.via)
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(app: &'a App, run: &'a Run, vm: VmEntry, template: Option<Template>) -> Self {
        let job = app.jobs.start(Run::NAME, &vm.name);
        let streams = run.streams.as_ref().or(run.captured.as_ref());
        let relay = streams.map(|streams| Arc::new(Relay::new(Arc::clone(streams))));
        Self {
            app,
            run,
            vm,
            template,
            job,
            relay,
            steps: Vec::new(),
            phase: RunPhase::Start,
            is_up: false,
            copied: Vec::new(),
            collected: Vec::new(),
        }
    }

    /// Runs the command, and removes the VM.
    pub(super) async fn run(mut self) -> RunResult {
        let concluded = self.carry_out().await;
        let (stage, serial) = if concluded.is_verdict() { (None, Vec::new()) } else { self.end_of_console().await };
        let last = self.phase;
        let is_kept = match self.run.keep {
            KeepVm::Never => false,
            KeepVm::Failed => concluded.exit_code != 0,
            KeepVm::Always => true,
        };
        let not_removed = self.dispose(is_kept).await.err();
        let Concluded { exit_code, signal, outcome, reason, error, command, is_cut_short } = concluded;
        let output = match (&self.relay, &command) {
            (Some(relay), Some(ExecResult { stdout: None, .. })) => relay.tails(),
            (_, Some(result)) => [&result.stdout, &result.stderr].map(|text| text.clone().unwrap_or_default()),
            (_, None) => Default::default(),
        };
        RunResult {
            id: self.vm.id.to_string(),
            name: self.vm.name.to_string(),
            exit_code,
            signal,
            outcome,
            phase: last,
            reason,
            error: error.map(|error| self.report(*error, last, is_kept)),
            stage,
            serial,
            template: None,
            rebuilt: None,
            steps: self.steps,
            command,
            copied: self.copied,
            collected: self.collected,
            kept: is_kept && not_removed.is_none(),
            not_removed: not_removed.map(|error| crate::maintenance::error_chain(&error)),
            warnings: Vec::new(),
            is_interrupted: is_cut_short || outcome == RunOutcome::Interrupted,
            output,
        }
    }

    async fn carry_out(&mut self) -> Concluded {
        if let Err(stop) = self.prepare().await {
            return Concluded::before_command(stop);
        }
        if let Some(begins) = &self.run.begins {
            begins.notify_one();
        }
        let began = self.begin(RunPhase::Command);
        let ended = self.command().await;
        self.end(began);
        let concluded = match ended {
            Ok(result) => {
                let signal = self.relay.as_ref().map_or(ProcessSignal::Int, |relay| relay.ended_by());
                Concluded::from(result).by_signal(signal)
            }
            Err(stop) => return Concluded::under_command(stop),
        };
        if self.run.collect.is_empty() || concluded.has_vm_ended() {
            return concluded;
        }
        match self.collect().await {
            Ok(()) => concluded,
            Err(stop) => concluded.without_collection(stop),
        }
    }

    /// Starts the VM, and has it ready for the command.
    async fn prepare(&mut self) -> Result<(), Stop> {
        let (app, run, id) = (self.app, self.run, self.vm.id.to_string());
        let began = self.begin(RunPhase::Start);
        let started = self.start().await;
        self.end(began);
        let started = started?;

        let began = self.begin(RunPhase::Boot);
        let limit = run.boot_timeout.unwrap_or(HumanDuration::new(limits::RUN_BOOT_TIMEOUT));
        let (conditions, since) = (self.conditions(), started.vm.started_at);
        let since = since.map(|at| WaitSince::Moment(Since::At(at)));
        let wait = Wait::new(&id, conditions).timeout(limit).since(since);
        let booted = self.interruptible(wait.run(app)).await;
        self.end(began);
        booted?;
        self.is_up = true;

        if !run.share.is_empty() {
            let began = self.begin(RunPhase::Share);
            let mounted = self.mount().await;
            self.end(began);
            mounted?;
        }
        if !run.copy.is_empty() {
            let began = self.begin(RunPhase::Copy);
            let copied = self.copy(&run.copy, true).await;
            self.end(began);
            copied?;
        }
        Ok(())
    }

    /// Starts the VM: it boots, or goes on from a template.
    async fn start(&self) -> Result<Started, Stop> {
        // A VM that is to stay must not end with this process.
        let foreground = self.run.keep == KeepVm::Never;
        match &self.template {
            None => self.interruptible(self.app.run(Start::new(self.vm.id.to_string()).foreground(foreground))).await,
            Some(template) => {
                let options = ForkOptions { paused: false, foreground, network: ForkNetwork::Same };
                let fork = start_defined(self.app, &self.vm, &template.found, options, &[], Run::NAME);
                self.interruptible(Box::pin(fork)).await
            }
        }
    }

    /// Returns what to wait for; a template has waited before.
    fn conditions(&self) -> Vec<Condition> {
        let mut conditions = self.run.wait.clone();
        if let Some(template) = &self.template {
            conditions.retain(|condition| !template.record.wait.contains(&condition.to_string()));
        }
        if conditions.is_empty() { vec![Condition::Agent] } else { conditions }
    }

    /// Runs the command until it has ended, or had its time after a signal.
    async fn command(&self) -> Result<ExecResult, Stop> {
        let exec = self.run.exec(&self.vm.id.to_string());
        let exec = match (&self.relay, &self.run.streams) {
            (Some(relay), Some(_)) => exec.streams(Arc::clone(relay) as _),
            (Some(relay), None) => exec.captured(Arc::clone(relay) as _),
            (None, _) => exec,
        };
        let after = self.run.kill_after.map_or(limits::KILL_AFTER, HumanDuration::duration) + limits::EXEC_GIVE_UP;
        let overdue = async {
            match &self.relay {
                Some(relay) => relay.overdue(after).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = Box::pin(exec.run(self.app)) => Ok(ended?.split().0),
            signal = overdue => Err(Stop::Interrupted(signal)),
            error = self.job.cut_off() => Err(error.into()),
        }
    }

    /// Mounts the shares in the guest.
    async fn mount(&self) -> Result<(), Stop> {
        for (index, share) in self.run.share.iter().enumerate() {
            let limit = HumanDuration::new(limits::RUN_MOUNT_TIMEOUT);
            let exec = Exec::new(self.vm.id.to_string(), share.mount(index)).timeout(limit);
            let exec = match &self.relay {
                Some(relay) => exec.captured(Arc::clone(relay) as _),
                None => exec,
            };
            let result = Box::pin(exec.run(self.app)).await?.split().0;
            if let Some(stop) = Concluded::interrupted(&result) {
                return Err(stop);
            }
            if result.exit_code != 0 {
                let line = result.stderr.as_deref().unwrap_or_default().trim().lines().next().unwrap_or_default();
                let reason = escape_control(&truncated(line, limits::MAX_REASON_CHARS)).into_owned();
                let (vm, path) = (self.vm.name.clone(), share.target.clone());
                return Err(Error::from(ExecError::MountFailed { vm, path, reason }).into());
            }
        }
        Ok(())
    }

    async fn collect(&mut self) -> Result<(), Stop> {
        let began = self.begin(RunPhase::Collect);
        let collected = self.copy(&self.run.collect, false).await;
        self.end(began);
        collected
    }

    /// Copies files in one direction; of those that come from the guest, one that fails is not in the way of the others.
    async fn copy(&mut self, copies: &[RunCopy], is_into_guest: bool) -> Result<(), Stop> {
        let app = self.app;
        let mut failed = None;
        for RunCopy { source, target } in copies {
            let guest = |path: &String| CopyPlace::Guest { vm: self.vm.id.to_string(), path: path.clone() };
            let host = |path: &String| CopyPlace::Host(path.clone());
            let cp =
                if is_into_guest { Cp::new(host(source), guest(target)) } else { Cp::new(guest(source), host(target)) };
            let cp = cp.recursive(true).via(self.run.via);
            match self.interruptible(Box::pin(cp.run(app))).await {
                Ok(done) if is_into_guest => self.copied.push(done.split().0),
                Ok(done) => self.collected.push(done.split().0),
                Err(Stop::Failed(error)) if !is_into_guest => failed = failed.or(Some(error)),
                Err(stop) => return Err(stop),
            }
        }
        failed.map_or(Ok(()), |error| Err(Stop::Failed(error)))
    }

    /// Does work until a signal or the end of the job; its jobs are canceled then, and had time to end.
    async fn interruptible<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Stop> {
        let interrupted = async {
            tokio::select! {
                signal = self.signal() => Stop::Interrupted(signal),
                error = self.job.cut_off() => Stop::Failed(error.into()),
            }
        };
        match select(pin!(interrupted), pin!(work)).await {
            Either::Right((done, _)) => Ok(done?),
            Either::Left((stop, work)) => {
                let _ = timeout(limits::RUN_CANCEL_TIMEOUT, join(self.cancel_jobs(), work)).await;
                Err(stop)
            }
        }
    }

    async fn signal(&self) -> ProcessSignal {
        match &self.relay {
            Some(relay) => relay.signal().await,
            None => pending().await,
        }
    }

    /// Cancels the jobs of other operations on the VM, which this one has begun.
    async fn cancel_jobs(&self) {
        let is_ours = |operation: &str| operation != Run::NAME;
        for job in self.app.jobs.list().iter().filter(|job| job.vm == self.vm.name && is_ours(job.operation)) {
            self.app.jobs.cancel(job.id).await;
        }
    }

    fn begin(&mut self, phase: RunPhase) -> Instant {
        self.phase = phase;
        self.job.set_stage(phase.to_string());
        Instant::now()
    }

    fn end(&mut self, began: Instant) {
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.steps.push(RunStep { phase: self.phase, duration_ms });
    }

    /// Returns the report of an error, whose hints hold once the VM is gone.
    fn report(&self, error: Error, last: RunPhase, is_kept: bool) -> ErrorReport {
        let mut report = ErrorReport::from(error);
        if report.code == "wait.timed-out" {
            report.hints = vec!["pass a longer `--boot-timeout`".to_owned()];
        }
        if !is_kept {
            report.hints.retain(|hint| !hint.contains(self.vm.name.as_str()));
            if last != RunPhase::Start {
                report.hints.push("pass `--keep=failed` to look into the VM".to_owned());
            }
        }
        report
    }

    /// Returns how far the guest came, and the last lines of its serial console.
    async fn end_of_console(&self) -> (Option<BootStage>, Vec<String>) {
        let stage = self.is_up.then_some(BootStage::Agent);
        let vm = self.app.ports.store.by_id(&self.vm.id).await.ok().flatten();
        let Some(run) = vm.and_then(|vm| vm.entry.run) else { return (stage, Vec::new()) };
        let (log, records) = (run.paths.serial_log(), &self.app.ports.records);
        let length = records.read(&log, 0, 0).await.map(|whole| whole.length).unwrap_or_default();
        let start = length.saturating_sub(limits::SERIAL_WINDOW_BYTES as u64);
        let Ok(tail) = records.read(&log, start, limits::SERIAL_WINDOW_BYTES).await else { return (stage, Vec::new()) };
        let text = String::from_utf8_lossy(&tail.bytes);
        let lines = LastLines::new(&text, usize::MAX).into_lines();
        (stage.or_else(|| BootStage::from_serial(&text)), last_of_console(lines))
    }

    /// Removes the VM, or makes it one that stays.
    async fn dispose(&mut self, is_kept: bool) -> Result<(), Error> {
        if is_kept {
            return keep(self.app, &self.vm.id, Lifetime::Unlimited, |definition| definition, Run::NAME).await;
        }
        let began = self.begin(RunPhase::Remove);
        let removed = remove(self.app, &self.vm.id, Run::NAME).await;
        self.end(began);
        removed.map(drop)
    }
}

/// Returns the last lines of a console, and the one before that says why the kernel panicked, if it did.
fn last_of_console(mut lines: Vec<String>) -> Vec<String> {
    let tail = lines.len().saturating_sub(limits::SERIAL_TAIL_LINES);
    let panic = lines[..tail].iter().rposition(|line| line.contains(KERNEL_PANIC));
    let panic = panic.map(|at| lines[at].clone());
    panic.into_iter().chain(lines.drain(tail..)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_last_of_console_has_the_line_of_a_panic() {
        let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let calls: Vec<String> = (0..limits::SERIAL_TAIL_LINES).map(|number| format!("call {number}")).collect();
        let panic = "[ 1.000001] Kernel panic - not syncing: VFS";

        let long = last_of_console([lines(&["boot", panic, "CPU: 0"]), calls.clone()].concat());
        let short = last_of_console(lines(&["boot", panic]));

        assert_eq!(long, [lines(&[panic]), calls].concat());
        assert_eq!(short, lines(&["boot", panic]));
    }
}
