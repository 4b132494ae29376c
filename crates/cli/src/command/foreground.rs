//! `maqet start --foreground`: a VM that ends with this process.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::join;
use maqet::domain::vm::{BootNumber, StateReason};
use maqet::operation::{Logs, Start, Started, Status, Stop, Stopped, Wait};
use maqet::{Condition, ErrorReport, ExpectedEnd, Explain, HumanDuration, Maqet, VmStatus};
use tokio::time::{Instant, sleep, timeout};

use super::define::{note_mismatches, warn_of_log_failure, warn_of_start};
use super::logs::LogForm;
use crate::args::StartArgs;
use crate::error::{terminal_failed, usage};
use crate::exit_code;
use crate::render::Output;
use crate::service::ServiceManager;
use crate::signal::{SignalKind, Signals};
use crate::stream::Stdout;

/// The signals that stop the VM.
const SIGNALS: [SignalKind; 3] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];

/// How long one wait for the end of the VM may take before the next begins.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// How long to wait before the database is read again after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long the serial output may take once the VM has stopped.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(2);

/// A VM that was started in the foreground.
struct Foreground<'a> {
    maqet: &'a Maqet,
    output: &'a Output,
    service: ServiceManager,
    started: Started,
    grace: Option<HumanDuration>,
}

/// What ends the wait for the end of the VM.
enum Turn {
    Signal(SignalKind),
    /// It stopped; `None` if it was removed.
    Ended(Option<Box<VmStatus>>),
    /// A condition was not met.
    Unready(maqet::Error),
}

/// Starts a VM, and stays until it has stopped; returns the exit code.
pub(super) async fn start(maqet: &Maqet, args: StartArgs, output: &Output) -> Result<u8, ErrorReport> {
    let [vm] = args.vms.vms.as_slice() else {
        return Err(usage("`--foreground` takes one VM").hint("run `maqet start --foreground` once for each VM"));
    };
    let conditions = super::lifecycle::with_absolute_paths(args.wait)?;
    let mut signals = Signals::new(&SIGNALS).map_err(terminal_failed)?;
    let service = ServiceManager::new(|name| maqet.settings().environment.get(name));
    let start = Start::new(vm).timeout(args.timeout).recreate(args.recreate).paused(args.paused).foreground(true);
    let message = format!("starting `{vm}`");
    let mut interrupted = None;
    let started = {
        let mut starting = pin!(output.progress(&message, maqet.run(start)));
        tokio::select! {
            biased;
            kind = signals.next() => {
                output.interrupt();
                // It is rolled back, if it was not done by then; a second signal does not wait for that.
                let ended = tokio::select! {
                    biased;
                    _ = signals.next() => None,
                    ((), ended) = join(maqet.app().cancel_jobs(), starting) => ended.ok(),
                };
                interrupted = Some(kind);
                let Some(started) = ended else {
                    output.note_interrupted();
                    return Ok(code_of_signal(kind));
                };
                started
            }
            started = &mut starting => started?,
        }
    };
    note_mismatches(&started.mismatches, output);
    warn_of_log_failure(started.log_failure.as_ref(), output);
    warn_of_start(&started.vm.name, &started.warnings, output);
    let vm = Foreground { maqet, output, service, started, grace: args.grace };
    match interrupted {
        Some(kind) => vm.stop(&mut signals, "shutting down the guest").await.map(|()| code_of_signal(kind)),
        None => vm.attend(signals, conditions, args.timeout).await,
    }
}

impl Foreground<'_> {
    /// Shows the serial output, and reacts to signals until the VM has stopped.
    async fn attend(
        &self,
        mut signals: Signals,
        conditions: Vec<Condition>,
        timeout_given: Option<HumanDuration>,
    ) -> Result<u8, ErrorReport> {
        let mut serial = pin!(self.show_serial());
        let mut work = pin!(self.watch(&mut signals, conditions, timeout_given));
        let mut is_shown = false;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut work => break ended,
                () = &mut serial, if !is_shown => is_shown = true,
            }
        };
        if !is_shown {
            // A reader that is slow does not keep the process.
            let _ = timeout(OUTPUT_TIMEOUT, serial).await;
        }
        ended
    }

    async fn watch(
        &self,
        signals: &mut Signals,
        conditions: Vec<Condition>,
        timeout_given: Option<HumanDuration>,
    ) -> Result<u8, ErrorReport> {
        let (id, name) = (&self.started.vm.id, &self.started.vm.name);
        let mut is_ready = conditions.is_empty();
        if is_ready {
            self.service.ready(&format!("`{name}` is {}", self.started.vm.status));
        } else {
            let texts: Vec<String> = conditions.iter().map(|condition| format!("`{condition}`")).collect();
            self.service.status(&format!("`{name}` started; waiting for {}", texts.join(", ")));
        }
        let since = self.started.vm.started_at.map(|at| maqet::WaitSince::Moment(maqet::operation::Since::At(at)));
        let wait = Wait::new(id, conditions).timeout(timeout_given).since(since);
        let turn = {
            let mut ready = pin!(self.maqet.run(wait));
            let mut end = pin!(self.end());
            loop {
                tokio::select! {
                    biased;
                    kind = signals.next() => break Turn::Signal(kind),
                    ended = &mut end => break Turn::Ended(ended),
                    waited = &mut ready, if !is_ready => match waited {
                        Ok(_) => {
                            is_ready = true;
                            self.service.ready(&format!("`{name}` is ready"));
                        }
                        Err(error) => break match timeout(RETRY_INTERVAL, &mut end).await {
                            // A VM that has ended cannot meet a condition either.
                            Ok(ended) => {
                                self.output.note(&error.to_string());
                                Turn::Ended(ended)
                            }
                            Err(_) => Turn::Unready(error),
                        },
                    },
                }
            }
        };
        // The waits are gone by now, and their sessions with QEMU with them.
        match turn {
            Turn::Ended(vm) => self.show_end(vm),
            Turn::Signal(kind) => {
                self.stop(signals, "shutting down the guest").await?;
                Ok(code_of_signal(kind))
            }
            Turn::Unready(error) => {
                self.stop(signals, "shutting down, as a condition was not met").await?;
                Err(error.into())
            }
        }
    }

    /// Writes the serial output of the guest to standard output.
    async fn show_serial(&self) {
        if self.output.is_quiet() || !self.output.is_text() {
            return;
        }
        let logs = Logs::new(&self.started.vm.id).boot(self.started.vm.boot.map(BootNumber));
        let Ok(mut reader) = logs.open(self.maqet.app()).await else { return };
        let mut form = LogForm::new(self.output.format());
        let stdout = Stdout::open();
        while let Ok(Some(piece)) = reader.follow().await {
            if !stdout.write(form.push(&piece)).await {
                break;
            }
        }
        stdout.write(form.finish()).await;
        // A closed pipe, and a full disk, do not end the VM.
        let _ = stdout.finish().await;
    }

    /// Waits for the end of the boot; `None` if the VM was removed.
    async fn end(&self) -> Option<Box<VmStatus>> {
        let mut is_noted = false;
        loop {
            let stopped = vec![Condition::Stopped(ExpectedEnd::Any)];
            let wait = Wait::new(&self.started.vm.id, stopped).boot(self.started.vm.boot);
            match self.maqet.run(wait.timeout(HumanDuration::new(LONGEST_WAIT))).await {
                Ok(waited) => return Some(Box::new(waited.vm)),
                Err(maqet::Error::NoSuchVm { .. }) => return None,
                Err(error) if error.code() == "wait.timed-out" => {}
                // QEMU would be killed if this process ended now.
                Err(error) => {
                    if !is_noted {
                        self.output
                            .note(&format!("cannot observe `{}`, and will try again: {error}", self.started.vm.name));
                    }
                    is_noted = true;
                    sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// Stops the VM; a signal meanwhile kills it.
    async fn stop(&self, signals: &mut Signals, status: &str) -> Result<(), ErrorReport> {
        let (id, name) = (&self.started.vm.id, &self.started.vm.name);
        self.service.stopping(status);
        self.output.note(&format!("stopping `{name}`; a second signal kills it"));
        let stopped = tokio::select! {
            biased;
            _ = signals.next() => None,
            stopped = self.shut_down() => Some(stopped?),
        };
        let stopped = match stopped {
            Some(Some(stopped)) => stopped,
            Some(None) => return Ok(()),
            None => self.maqet.run(Stop::new(id).force(true)).await?,
        };
        super::lifecycle::note_power_cut(name, stopped.power_cut_after_ms, self.output);
        if self.output.is_text() { Ok(()) } else { self.output.show_data(&stopped.vm) }
    }

    /// Shuts the guest down; `None` if the VM was removed, or started again by another command.
    ///
    /// As long as the guest has time, a failure is not the end: another operation holds the lock, or the database is
    /// away for a moment, and the power of the guest would be cut if this process ended.
    async fn shut_down(&self) -> Result<Option<Stopped>, ErrorReport> {
        let id = &self.started.vm.id;
        let grace = self.grace.map_or(self.maqet.settings().timeouts().power_down, HumanDuration::duration);
        let until = Instant::now() + grace;
        let mut is_noted = false;
        loop {
            match self.maqet.run(Status::new(id)).await {
                Ok(vm) if vm.boot != self.started.vm.boot => return Ok(None),
                Err(maqet::Error::NoSuchVm { .. }) => return Ok(None),
                Ok(_) | Err(_) => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            let error = match self.maqet.run(Stop::new(id).timeout(HumanDuration::new(left))).await {
                Ok(stopped) => return Ok(Some(stopped)),
                Err(error) => error,
            };
            if Instant::now() >= until {
                return Err(error.into());
            }
            if !is_noted {
                self.output.note(&format!("{error}; trying again"));
            }
            is_noted = true;
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// Shows how the VM ended; returns the exit code.
    fn show_end(&self, ended: Option<Box<VmStatus>>) -> Result<u8, ErrorReport> {
        let name = &self.started.vm.name;
        let Some(vm) = ended else {
            self.output.note(&format!("`{name}` was removed"));
            return Ok(exit_code::DONE);
        };
        if !self.output.is_text() {
            self.output.show_data(&vm)?;
        }
        if vm.boot != self.started.vm.boot {
            self.output.note(&format!("`{name}` was started again by another command, and runs on"));
            return Ok(exit_code::DONE);
        }
        let Some(StateReason::Ended(reason)) = vm.reason else { return Ok(exit_code::DONE) };
        let details = vm.details.as_ref().map(|details| format!(" ({details})")).unwrap_or_default();
        self.output.note(&format!("`{name}` stopped: {reason}{details}"));
        // QEMU has SIGTERM blocked, so a signal from the host is one of `maqet stop`.
        Ok(if reason.is_failure() { exit_code::VM_ENDED } else { exit_code::DONE })
    }
}

/// Returns the exit code of a process that a signal ended, as shells report it.
fn code_of_signal(kind: SignalKind) -> u8 {
    u8::try_from(kind.as_raw_value()).map_or(exit_code::INTERRUPTED, |signal| 128 | signal)
}
