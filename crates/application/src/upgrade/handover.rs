//! The steps by which a guest gets into another QEMU.

use std::time::Duration;

use futures_util::future::{Either, select};
use maqet_domain::change::ChangeSet;
use maqet_domain::qmp::{MigrationInfo, MigrationStatus, QmpCommand, QmpError};
use maqet_domain::upgrade::UpgradeMethod;
use maqet_domain::vm::{PendingWork, Phase, Run, UpgradeWork, VmEntry};
use maqet_fault_points::FaultPoint;
use tokio::time::{Instant, sleep};

use super::error::UpgradeError;
use super::forwards;
use super::plan::Plan;
use super::recover::{end_source, is_switched, recover};
use super::successor::{Successor, end_incoming, ignore_shared};
use crate::app::commit::{run_change, work_done};
use crate::app::recovered::{Recovered, RecoveryOutcome};
use crate::job::{Job, ProgressUnit};
use crate::snapshot::live::LiveVm;
use crate::{App, Error, limits};

/// A guest that is put into another QEMU; the caller holds the lock of the VM.
pub(crate) struct Handover<'a> {
    pub(crate) app: &'a App,
    pub(crate) job: &'a Job<'a>,
    pub(crate) operation: &'static str,
    pub(crate) plan: &'a Plan,
}

/// A guest that is in another QEMU.
pub(crate) struct HandedOver {
    /// The VM, whose work is still pending.
    pub(crate) entry: VmEntry,
    /// Its run.
    pub(crate) run: Run,
    /// How long the guest was paused; unknown if something failed after it was in the other QEMU.
    pub(crate) pause: Option<Duration>,
    pub(crate) warnings: Vec<String>,
}

impl HandedOver {
    /// Returns what records that the guest is in the other QEMU, and that no work is pending.
    pub(crate) fn changes(&self) -> ChangeSet {
        let changes = ChangeSet::default().and(run_change(&self.entry, Some(self.run.clone())));
        let entry = VmEntry { revision: self.entry.revision.next(), ..self.entry.clone() };
        changes.and(work_done(&entry))
    }
}

impl Handover<'_> {
    /// Puts the guest into the other QEMU; if that fails, it goes on where it was.
    pub(crate) async fn run(&self, mut live: LiveVm<'_>, entry: &VmEntry) -> Result<HandedOver, Error> {
        let app = self.app;
        let work = UpgradeWork {
            before: live.run().clone(),
            paths: self.plan.paths.clone(),
            resumes: self.plan.runs,
            forwards: self.plan.forwards.clone(),
            bandwidth: self.plan.bandwidth,
        };
        let pending = PendingWork::Upgrade(Box::new(work.clone()));
        let mut entry = app.committer().begin_work(entry, self.operation, pending, Vec::new()).await?;
        app.faults.reach(FaultPoint::Marked(self.operation));
        match self.hand_over(&mut live, &mut entry, &work).await {
            Ok((pause, warnings)) => {
                let run = entry.run.clone().unwrap_or_else(|| work.before.clone()).at_phase(Phase::Running);
                Ok(HandedOver { entry, run, pause: Some(pause), warnings })
            }
            Err(error) => {
                drop(live);
                self.conclude(&entry, &work, error).await
            }
        }
    }

    async fn hand_over(
        &self,
        live: &mut LiveVm<'_>,
        entry: &mut VmEntry,
        work: &UpgradeWork,
    ) -> Result<(Duration, Vec<String>), Error> {
        let app = self.app;
        self.job.set_stage("starting the other QEMU");
        let mut next = self.job.run(Successor::start(app, entry, self.plan)).await??;
        next.require_same(entry, self.plan, live.session()).await?;
        let shares_memory = self.plan.choice.method == UpgradeMethod::SharedMemory;
        let uri = next.listen(shares_memory).await?;
        if shares_memory {
            live.query(&ignore_shared(true)).await?;
        }
        live.limit_bandwidth(0).await?;
        app.faults.reach(FaultPoint::UpgradeLaunched);

        let began = Instant::now();
        if work.resumes {
            live.query(&QmpCommand::new("stop")).await?;
        }
        app.faults.reach(FaultPoint::UpgradePaused);
        live.query(&QmpCommand::new("migrate").with("uri", uri)).await?;
        self.wait_for_copy(live).await?;
        next.loaded().await.map_err(|error| self.failed(&error.to_string()))?;
        app.faults.reach(FaultPoint::UpgradeCopied);

        // From here on, the guest is in the other QEMU. A run that is being started is recorded without a wait for the disk.
        let run = Run {
            boot: self.plan.boot,
            phase: Phase::Starting,
            process: Some(next.launched.process.clone()),
            started_at: app.ports.clock.now(),
            paths: work.paths.clone(),
            forwards: forwards::in_order(&work.forwards, &work.before.forwards),
        };
        *entry = app.committer().record_run(entry, Some(run)).await?;
        app.faults.reach(FaultPoint::UpgradeRecorded);
        if work.resumes {
            next.query(&QmpCommand::new("cont")).await?;
        }
        let pause = began.elapsed();
        app.faults.reach(FaultPoint::UpgradeResumed);
        self.take_the_rest(live, &mut next, entry, work).await.map(|warnings| (pause, warnings))
    }

    /// Gives the other QEMU the ports and the lock of the VM, and ends the first.
    async fn take_the_rest(
        &self,
        live: &mut LiveVm<'_>,
        next: &mut Successor<'_>,
        entry: &VmEntry,
        work: &UpgradeWork,
    ) -> Result<Vec<String>, Error> {
        if let Err(error) = forwards::give_up(live.session(), &work.forwards).await {
            tracing::debug!(%error, "the first QEMU keeps its ports until it ends");
        }
        // Those that the first QEMU has kept follow.
        forwards::add_missing(&mut *next.session, &work.forwards).await?;
        end_source(self.app, entry, work).await?;
        self.app.faults.reach(FaultPoint::UpgradeEnded);
        let mut warnings = next.launched.warnings.clone();
        warnings.extend(forwards::add_missing(&mut *next.session, &work.forwards).await?);
        end_incoming(&mut *next.session, self.app).await?;
        Ok(warnings)
    }

    /// Waits until the state of the guest was sent; gives up if the job is canceled.
    async fn wait_for_copy(&self, live: &mut LiveVm<'_>) -> Result<(), Error> {
        self.job.set_stage("copying the state of the guest");
        let canceled = {
            let report = |info: &MigrationInfo| {
                self.job.report(ProgressUnit::Bytes, info.total.saturating_sub(info.remaining), info.total);
            };
            // Often, as the guest is paused.
            let end = std::pin::pin!(async {
                loop {
                    let info = live.migration().await?;
                    report(&info);
                    if !info.is_under_way() {
                        return Ok::<_, QmpError>(info);
                    }
                    sleep(limits::CHECKPOINT_MOMENT_INTERVAL).await;
                }
            });
            let cut_off = std::pin::pin!(self.job.cut_off());
            match select(end, cut_off).await {
                Either::Left((ended, _)) => return self.require_sent(&ended?),
                Either::Right((error, _)) => error,
            }
        };
        live.cancel_saving().await?;
        Err(canceled)
    }

    fn require_sent(&self, info: &MigrationInfo) -> Result<(), Error> {
        if info.status == MigrationStatus::Completed {
            return Ok(());
        }
        Err(self.failed(info.error.as_deref().unwrap_or("it did not take the state of the guest")))
    }

    fn failed(&self, reason: &str) -> Error {
        let (vm, binary) = (self.job.vm().clone(), self.plan.binary.path.clone());
        UpgradeError::HandoverFailed { vm, binary, reason: reason.to_owned(), log: self.plan.paths.qemu_log() }.into()
    }

    /// Has the guest go on in one of the QEMUs after a step failed; what fails here stays pending for the next operation.
    async fn conclude(&self, entry: &VmEntry, work: &UpgradeWork, error: Error) -> Result<HandedOver, Error> {
        let concluded = async {
            let vm = self.app.ports.store.by_id(&entry.id).await?;
            let entry = vm.map_or_else(|| entry.clone(), |vm| vm.entry);
            let recovered = recover(self.app, &entry, work).await?;
            if is_switched(&recovered.entry, work) {
                return Ok(recovered);
            }
            let entry = self.app.committer().end_work(&recovered.entry, recovered.changes.clone()).await?;
            Ok::<_, Error>(Recovered { entry, ..recovered })
        };
        match Box::pin(concluded).await {
            Ok(recovered) if recovered.outcome == RecoveryOutcome::Finished && is_switched(&recovered.entry, work) => {
                let run = recovered.entry.run.clone().unwrap_or_else(|| work.before.clone());
                let warnings = vec![error.to_string()];
                Ok(HandedOver { entry: recovered.entry, run, pause: None, warnings })
            }
            Ok(_) => Err(error),
            Err(failed) => {
                tracing::warn!(vm = %entry.name, error = %failed, "could not finish or undo an upgrade; the next operation does");
                Err(error)
            }
        }
    }
}
