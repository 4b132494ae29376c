//! Recovery of work on a running VM whose maqet process was killed: QEMU went on with it, and keeps its result.

use maqet_domain::port::{HeldLock, ImageFile, ImageRepair, ImageWork};
use maqet_domain::qmp::wording::is_load_without_effect;
use maqet_domain::qmp::{JobInfo, QmpCommand, QmpError};
use maqet_domain::snapshot::tag;
use maqet_domain::vm::{ImageTag, LoadGuest, Status, VmEntry};

use super::LiveVm;
use super::load::{FailedLoad, safety_records};
use crate::app::recovered::{FollowUp, Recovered};
use crate::job::qmp_job::QmpJobs;
use crate::snapshot::recover::{self as offline, record_removals};
use crate::snapshot::tpm_copy;
use crate::start::tpm::copy_tags;
use crate::{App, Error};

/// The job that loads a snapshot.
const LOAD: &str = "snapshot-load";

impl LiveVm<'_> {
    /// Waits for the jobs of the process that was killed, and returns what became of them.
    async fn finished_jobs(&mut self) -> Result<Vec<JobInfo>, QmpError> {
        QmpJobs::stale(&mut *self.session).await?.wait(JobInfo::has_ended, |_, _| {}).await
    }

    /// Removes jobs that have ended from QEMU's list.
    pub(super) async fn dismiss_all(&mut self) -> Result<(), QmpError> {
        QmpJobs::stale(&mut *self.session).await?.dismiss().await
    }

    /// Lets the guest run, if it did before the load, and QEMU forget the job.
    async fn end_load(&mut self, guest: LoadGuest) -> Result<(), QmpError> {
        if guest == LoadGuest::Resumes {
            self.query(&QmpCommand::new("cont")).await?;
        }
        self.dismiss_all().await
    }

    /// Removes those of the snapshots that exist, after the jobs that create or remove them.
    pub(crate) async fn remove_present(&mut self, tags: &[ImageTag]) -> Result<(), Error> {
        self.finished_jobs().await?;
        let mut present = Vec::new();
        for one in tags {
            if tpm_copy::is_of_tpm(one)
                || self.app.ports.images.exists(&one.path).await
                    && tag::has_tag(&self.app.ports.images.snapshots(&one.path).await?, &one.tag)
            {
                present.push(one.clone());
            }
        }
        self.delete(&present).await?;
        Ok(self.dismiss_all().await?)
    }
}

/// Removes the snapshots of a set that QEMU did not complete.
pub(crate) async fn roll_back_create(
    app: &App,
    entry: &VmEntry,
    guard: &HeldLock,
    created: &[ImageTag],
) -> Result<Recovered, Error> {
    if let Some(mut live) = LiveVm::open(app, entry).await? {
        live.remove_present(created).await?;
        return Ok(Recovered::rolled_back(entry));
    }
    let recovered = offline::roll_back_create(app, entry, guard, created).await?;
    free_leaks(app, guard, created).await?;
    Ok(recovered)
}

/// Removes the remaining snapshots of a set that was being removed.
pub(crate) async fn finish_remove(
    mut live: LiveVm<'_>,
    entry: &VmEntry,
    removed: &[ImageTag],
) -> Result<Recovered, Error> {
    live.remove_present(removed).await?;
    Ok(Recovered { changes: record_removals(entry, removed), ..Recovered::finished(entry) })
}

/// Reverts the disks of a VM whose QEMU is gone to the states before a load, if it began.
pub(super) async fn revert(
    app: &App,
    entry: &VmEntry,
    guard: &HeldLock,
    safety: &[ImageTag],
) -> Result<Recovered, Error> {
    let recovered = offline::recover_load(app, entry, guard, safety).await?;
    free_leaks(app, guard, safety).await?;
    Ok(recovered)
}

/// Gives back the space of images that a QEMU which was killed had reserved for its work.
async fn free_leaks(app: &App, guard: &HeldLock, tags: &[ImageTag]) -> Result<(), Error> {
    let work = ImageWork { guard, progress: &|_, _| {} };
    for tag in tags {
        if !tpm_copy::is_of_tpm(tag) && app.ports.images.exists(&tag.path).await {
            let image = ImageFile { path: tag.path.clone(), format: "qcow2".to_owned() };
            app.ports.image_tools.check(&image, Some(ImageRepair::Leaks), &work).await?;
        }
    }
    Ok(())
}

/// Recovers a load into a running VM: finishes it if QEMU did, ends QEMU and reverts the disks if it failed, and goes on
/// if it did not begin.
pub(crate) async fn recover_load(
    app: &App,
    entry: &VmEntry,
    guard: &HeldLock,
    safety: &[ImageTag],
    guest: LoadGuest,
) -> Result<Recovered, Error> {
    let Some(mut live) = LiveVm::open(app, entry).await? else { return revert(app, entry, guard, safety).await };
    // One that changed nothing has not begun.
    let is_begun = |job: &JobInfo| job.kind == LOAD && !job.error.as_deref().is_some_and(is_load_without_effect);
    let loads: Vec<JobInfo> = live.finished_jobs().await?.into_iter().filter(is_begun).collect();
    if loads.iter().any(|job| job.error.is_some()) || live.status().await? == Status::RestoreFailed {
        let (run, process) = (live.run().clone(), live.process()?.clone());
        drop(live);
        let failed = FailedLoad { run: &run, process: &process, safety };
        let entry = failed.end(app, entry).await?;
        return revert(app, &entry, guard, safety).await;
    }
    if loads.is_empty() {
        live.remove_present(safety).await?;
        live.end_load(guest).await?;
        return Ok(Recovered::rolled_back(entry));
    }
    let recovered = finish_load(app, &mut live, entry, safety).await?;
    Ok(Recovered { follow_up: FollowUp::EndLoad(guest), ..recovered })
}

/// Does what follows once a recovery was written.
pub(crate) async fn follow_up(app: &App, entry: &VmEntry, follow_up: FollowUp) -> Result<(), Error> {
    let FollowUp::EndLoad(guest) = follow_up else { return Ok(()) };
    match LiveVm::open(app, entry).await? {
        Some(mut live) => Ok(live.end_load(guest).await?),
        None => Ok(()),
    }
}

/// Keeps the safety snapshot of a load that succeeded.
async fn finish_load(
    app: &App,
    live: &mut LiveVm<'_>,
    entry: &VmEntry,
    safety: &[ImageTag],
) -> Result<Recovered, Error> {
    let mut changes = safety_records(app, entry, safety).await?;
    let mut replaced = Vec::new();
    for one in safety {
        let tags: Vec<String> = if tpm_copy::is_of_tpm(one) {
            copy_tags(&*app.ports.images, &one.path).await?
        } else {
            let table = app.ports.images.snapshots(&one.path).await?;
            tag::safeties(&table).into_iter().map(|safety| safety.name.clone()).collect()
        };
        replaced.extend(tags.into_iter().filter(|tag| *tag != one.tag).map(|tag| ImageTag { tag, ..one.clone() }));
    }
    live.delete(&replaced).await?;
    changes.extend(record_removals(entry, &replaced));
    Ok(Recovered { changes, ..Recovered::finished(entry) })
}
