//! What becomes of a guest whose maqet process was killed, or failed, while it was put into another QEMU.
//!
//! | the run of the VM is | then |
//! | --- | --- |
//! | that of the first QEMU | the other one is ended, and the guest goes on in the first |
//! | that of the other QEMU, which can run the guest | the guest goes on there, and the first QEMU is ended |
//! | that of the other QEMU, which cannot run the guest | the run is that of the first QEMU again, as above |
//!
//! The guest never runs in both: the first one does not go on once the other is recorded, and the other is ended before
//! the first goes on.

use maqet_domain::qmp::{QmpCommand, QmpError, RunState};
use maqet_domain::vm::{Phase, UpgradeWork, VmEntry};

use super::{forwards, successor};
use crate::app::recovered::Recovered;
use crate::checkpoint::saver::unless_refused;
use crate::snapshot::live::LiveVm;
use crate::{App, Error};

/// Has the guest go on in one of the QEMUs, and leaves nothing of the other.
pub(crate) async fn recover(app: &App, entry: &VmEntry, work: &UpgradeWork) -> Result<Recovered, Error> {
    if is_switched(entry, work) { finish(app, entry, work).await } else { roll_back(app, entry, work).await }
}

/// Returns whether it is recorded that the other QEMU runs the VM.
pub(super) fn is_switched(entry: &VmEntry, work: &UpgradeWork) -> bool {
    entry.run.as_ref().is_some_and(|run| run.paths == work.paths)
}

async fn roll_back(app: &App, entry: &VmEntry, work: &UpgradeWork) -> Result<Recovered, Error> {
    // Before the other is ended: a QEMU that is not visible here is left to a process that sees both.
    let live = LiveVm::open(app, entry).await?;
    if let Some(process) = app.ports.hypervisor.find_process(&work.paths).await {
        app.shutdown().kill(&entry.name, &process).await?;
    }
    app.ports.hypervisor.remove_sockets(&work.paths).await;
    app.ports.hypervisor.discard_successor(&work.paths).await;
    if let Some(mut live) = live {
        go_on(&mut live, work).await?;
    }
    Ok(Recovered::rolled_back(entry))
}

/// Has the guest go on in the first QEMU.
async fn go_on(live: &mut LiveVm<'_>, work: &UpgradeWork) -> Result<(), Error> {
    if live.migration().await?.is_under_way() {
        live.cancel_saving().await?;
    }
    unless_refused(live.query(&successor::ignore_shared(false)).await)?;
    if let Some(bandwidth) = work.bandwidth {
        live.limit_bandwidth(bandwidth).await?;
    }
    if !work.resumes {
        return Ok(());
    }
    match live.run_state().await? {
        RunState::Paused | RunState::Postmigrate | RunState::FinishMigrate => live.run_on().await,
        _ => Ok(()),
    }
}

async fn finish(app: &App, entry: &VmEntry, work: &UpgradeWork) -> Result<Recovered, Error> {
    let Some(mut next) = LiveVm::open(app, entry).await? else {
        // It has run the guest, and has ended since.
        end_source(app, entry, work).await?;
        return Ok(Recovered::finished(&record_running(app, entry).await?));
    };
    if work.resumes && next.run_state().await? == RunState::Paused {
        match next.query(&QmpCommand::new("cont")).await {
            Ok(_) => {}
            Err(QmpError::Refused { .. }) if is_source_alive(app, work) => {
                drop(next);
                let entry = app.committer().record_run(entry, Some(work.before.clone())).await?;
                return roll_back(app, &entry, work).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    end_source(app, entry, work).await?;
    for warning in forwards::add_missing(next.session(), &work.forwards).await? {
        tracing::warn!(vm = %entry.name, "{warning}");
    }
    successor::end_incoming(next.session(), app).await?;
    Ok(Recovered::finished(&record_running(app, entry).await?))
}

fn is_source_alive(app: &App, work: &UpgradeWork) -> bool {
    work.before.process.as_ref().is_some_and(|process| app.ports.processes.is_alive(process))
}

async fn record_running(app: &App, entry: &VmEntry) -> Result<VmEntry, Error> {
    let run = entry.run.as_ref().map(|run| run.at_phase(Phase::Running));
    app.committer().record_run(entry, run).await
}

/// Ends the first QEMU, which does not have the guest any more, and gives its lock to the other.
pub(super) async fn end_source(app: &App, entry: &VmEntry, work: &UpgradeWork) -> Result<(), Error> {
    let taken = app.ports.hypervisor.take_over(&work.paths).await;
    taken.map_err(|source| Error::Launch { vm: entry.name.clone(), source })?;
    if let Some(process) = &work.before.process
        && app.ports.processes.is_alive(process)
    {
        app.shutdown().kill(&entry.name, process).await?;
    }
    app.ports.hypervisor.remove_sockets(&work.before.paths).await;
    Ok(())
}
