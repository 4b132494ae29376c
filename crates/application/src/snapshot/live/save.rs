//! Saving a running VM: its memory and disks, or disks alone.
//!
//! QEMU saves the memory into the image of the first drive, and the guest is paused meanwhile. A save cannot be
//! canceled (7.2, 10.0): once it is sent it is waited for, and then removed.

use std::collections::BTreeMap;

use futures_util::future::{Either, select};
use maqet_domain::change::Change;
use maqet_domain::port::{HeldLock, ImageError, ImageUse};
use maqet_domain::qmp::{QmpCommand, QmpError};
use maqet_domain::snapshot::{SnapshotKind, SnapshotRecord};
use maqet_domain::storage::ImageAccess;
use maqet_domain::vm::{ImageTag, PendingWork, Status, VmEntry};
use maqet_fault_points::FaultPoint;
use serde_json::Value;

use super::recover::roll_back_create;
use super::{LiveDisk, LiveVm, nodes};
use crate::app::recovered::Recovered;
use crate::guest::agent::Agent;
use crate::guest::error::ExecError;
use crate::guest::quiesce::{Frozen, QuiesceError};
use crate::job::qmp_job::QmpJobs;
use crate::job::{Job, ProgressUnit};
use crate::snapshot::tpm_copy;
use crate::{App, Error, limits};

/// A snapshot of a running VM that is to be created; its name is free, and the VM can be saved.
pub(crate) struct LiveSave<'a> {
    pub(crate) operation: &'static str,
    pub(crate) disks: &'a [LiveDisk],
    /// Its name for users, and its name inside the images.
    pub(crate) name: &'a str,
    pub(crate) tag: &'a str,
    pub(crate) description: Option<String>,
    /// What the memory depends on, and how much of it there is; `None` for disks alone.
    pub(crate) memory: Option<LiveMemory>,
    /// The snapshots that it replaces.
    pub(crate) replaced: Vec<ImageTag>,
    /// Whether the file systems of the guest are frozen for the moment of which it has the disks.
    pub(crate) quiesce: bool,
}

/// The memory of a VM.
pub(crate) struct LiveMemory {
    pub(crate) fingerprint: Value,
    pub(crate) bytes: u64,
}

impl LiveSave<'_> {
    /// Creates the snapshot and records it; returns the entry of the VM as it is from then on, and the records.
    ///
    /// Nothing is left of a snapshot that fails or is cut off.
    pub(crate) async fn run(
        self,
        live: &mut LiveVm<'_>,
        entry: &VmEntry,
        guard: &HeldLock,
        job: &Job<'_>,
    ) -> Result<(VmEntry, Vec<SnapshotRecord>), Error> {
        let app = live.app;
        let ran = live.status().await? == Status::Running;
        if self.quiesce {
            // While nothing is pending: what is pending has to be thawed, which takes the agent as well.
            let agent = Agent { agents: &*app.ports.agents, paths: &live.run().paths };
            live.warnings.extend(Frozen::check(agent, &entry.name).await.map_err(ExecError::from)?);
        }
        let created: Vec<ImageTag> = self.disks.iter().map(|disk| disk.tag(self.tag)).collect();
        let work = PendingWork::SnapshotCreate { created: created.clone(), live: true, quiesced: self.quiesce };
        let entry = app.committer().begin_work(entry, self.operation, work, Vec::new()).await?;
        app.faults.reach(FaultPoint::Marked(self.operation));
        let saved = match &self.memory {
            Some(memory) => match live.save(job, self.disks, self.tag, memory.bytes).await {
                Err(error) => Err(self.or_full(app, error).await),
                saved => saved,
            },
            // If the guest is not thawed, the work stays pending: the next operation tries that, too.
            None if self.quiesce => save_quiesced(live, &entry, &created).await?,
            None => live.save_disks(&created).await.map_err(Error::from),
        };
        app.faults.reach(FaultPoint::SnapshotSaved);
        let records = match saved {
            Ok(()) => self.records(app, &entry).await,
            Err(error) => Err(error),
        };
        match records {
            Ok(records) => {
                let entry = self.record(live, entry, &records).await?;
                Ok((entry, records))
            }
            Err(error) => {
                if let Err(failed) = take_back(live, &entry, guard, &created, ran).await {
                    tracing::warn!(vm = %entry.name, error = %failed, "could not take back a snapshot that failed");
                }
                Err(error)
            }
        }
    }

    /// Returns that the disk is full if that is why the memory could not be saved: QEMU reports an I/O error (7.2, 10.0).
    async fn or_full(&self, app: &App, error: Error) -> Error {
        let Some(state) = self.disks.first().filter(|_| matches!(error, Error::QmpJob(_))) else { return error };
        match app.ports.maintenance.probe.space(&state.path).await {
            Some(space) if space.free_bytes < limits::FULL_DISK_BYTES => {
                tracing::debug!(%error, "a save failed on a full disk");
                ImageError::Full { path: state.path.clone() }.into()
            }
            _ => error,
        }
    }

    /// Records the snapshot, then removes those that it replaces.
    async fn record(
        &self,
        live: &mut LiveVm<'_>,
        entry: VmEntry,
        records: &[SnapshotRecord],
    ) -> Result<VmEntry, Error> {
        let app = live.app;
        let changes: Vec<Change> =
            records.iter().map(|record| Change::SnapshotAdded(Box::new(record.clone()))).collect();
        app.faults.reach(FaultPoint::BeforeCommit(self.operation));
        let entry = live.record(self.operation, entry, changes, &self.replaced).await?;
        app.faults.reach(FaultPoint::Committed(self.operation));
        Ok(entry)
    }

    /// Returns the records of the snapshot, as its images describe it.
    async fn records(&self, app: &App, entry: &VmEntry) -> Result<Vec<SnapshotRecord>, Error> {
        let set = (self.disks.len() > 1).then(|| app.ports.ids.snapshot_set_id());
        let kind = if self.memory.is_some() { SnapshotKind::Memory } else { SnapshotKind::Disk };
        let mut records = Vec::new();
        for disk in self.disks {
            let snapshots = app.ports.images.snapshots(&disk.path).await?;
            let Some(snapshot) = snapshots.into_iter().find(|snapshot| snapshot.name == self.tag) else {
                let detail = format!("`snapshot-save` created no snapshot of drive `{}`", disk.name);
                return Err(QmpError::InvalidResponse { detail }.into());
            };
            records.push(SnapshotRecord {
                set,
                description: self.description.clone(),
                fingerprint: self.memory.as_ref().map(|memory| memory.fingerprint.clone()),
                ..SnapshotRecord::of_image(entry.id, &disk.name, self.name, snapshot, kind, app.committer().now())
            });
        }
        Ok(records)
    }
}

impl LiveVm<'_> {
    /// Saves memory and disks; `memory` is how much of it there is at most.
    ///
    /// Errors: the job was cut off, and the snapshot may exist; [`Error::QmpJob`], and those of the session.
    async fn save(&mut self, job: &Job<'_>, disks: &[LiveDisk], tag: &str, memory: u64) -> Result<(), Error> {
        let app = self.app;
        let Some(state) = disks.first() else { return Ok(()) };
        let id = QmpJobs::id("save", app.committer().now());
        let command = QmpCommand::new("snapshot-save")
            .with("job-id", id.as_str())
            .with("tag", tag)
            .with("vmstate", state.node.as_str())
            .with("devices", nodes(disks));
        let size_before = allocated(app, state).await;
        let work = async {
            let mut jobs = QmpJobs::start(&mut *self.session, vec![id], &command).await?;
            let outcome = jobs.conclude(|_, _| {}).await;
            jobs.dismiss().await?;
            outcome
        };
        let tick = async || match (allocated(app, state).await, size_before) {
            (Some(now), Some(before)) => {
                job.report(ProgressUnit::Bytes, now.saturating_sub(before).min(memory), memory);
            }
            _ => job.report_elapsed(),
        };
        job.set_stage("saving the memory");
        to_the_end(job, job.ticking(work, tick)).await
    }

    /// Creates snapshots of disks at one moment, all or none; the guest runs on.
    pub(crate) async fn save_disks(&mut self, tags: &[ImageTag]) -> Result<(), QmpError> {
        let nodes = self.nodes_of(tags).await?;
        let create = |(tag, node): (&ImageTag, &String)| {
            QmpCommand::new("blockdev-snapshot-internal-sync")
                .with("device", node.as_str())
                .with("name", tag.tag.as_str())
        };
        self.query(&QmpCommand::transaction(tags.iter().zip(&nodes).map(create))).await.map(drop)
    }

    /// Removes snapshots; one that does not exist is ignored, as QEMU does.
    pub(crate) async fn delete(&mut self, tags: &[ImageTag]) -> Result<(), Error> {
        let (copies, tags): (Vec<ImageTag>, Vec<ImageTag>) = tags.iter().cloned().partition(tpm_copy::is_of_tpm);
        for copy in copies {
            tpm_copy::remove(self.app, &copy).await?;
        }
        for tags in by_tag(&tags) {
            let name = tags.first().map(|tag| tag.tag.as_str()).unwrap_or_default();
            let devices = self.nodes_of(&tags).await?.into_iter().map(Value::from);
            let id = QmpJobs::id("delete", self.app.committer().now());
            let command = QmpCommand::new("snapshot-delete")
                .with("job-id", id.as_str())
                .with("tag", name)
                .with("devices", devices.collect::<Vec<_>>());
            let mut jobs = QmpJobs::start(&mut *self.session, vec![id], &command).await?;
            let outcome = jobs.conclude(|_, _| {}).await;
            jobs.dismiss().await?;
            outcome?;
        }
        Ok(())
    }
}

/// Returns the snapshots that one command of QEMU removes: those of one tag.
pub(crate) fn by_tag(tags: &[ImageTag]) -> Vec<Vec<ImageTag>> {
    let mut groups = BTreeMap::<&str, Vec<ImageTag>>::new();
    for tag in tags {
        groups.entry(&tag.tag).or_default().push(tag.clone());
    }
    groups.into_values().collect()
}

/// Creates snapshots of disks while the file systems of the guest are frozen; returns whether they were created.
///
/// Errors: the guest could not be thawed.
async fn save_quiesced(
    live: &mut LiveVm<'_>,
    entry: &VmEntry,
    created: &[ImageTag],
) -> Result<Result<(), Error>, Error> {
    let (app, paths) = (live.app, live.run().paths.clone());
    let agent = Agent { agents: &*app.ports.agents, paths: &paths };
    let frozen = match Frozen::freeze(agent, &entry.name, app.timeouts().freeze).await {
        Ok(frozen) => frozen,
        Err(error @ QuiesceError::NotThawed { .. }) => return Err(ExecError::from(error).into()),
        Err(error) => return Ok(Err(ExecError::from(error).into())),
    };
    let saved = live.save_disks(created).await.map_err(Error::from);
    app.faults.reach(FaultPoint::SnapshotSaved);
    match frozen.thaw().await {
        Ok(()) => Ok(saved),
        Err(error @ QuiesceError::NotThawed { .. }) => Err(ExecError::from(error).into()),
        Err(error) => Ok(saved.and(Err(ExecError::from(error).into()))),
    }
}

/// Removes what there is of a snapshot that failed, and lets a guest go on that found its disk full meanwhile.
///
/// If that fails, the next command that locks the VM tries again.
async fn take_back(
    live: &mut LiveVm<'_>,
    entry: &VmEntry,
    guard: &HeldLock,
    created: &[ImageTag],
    ran: bool,
) -> Result<(), Error> {
    let app = live.app;
    // The session at hand: QEMU has two, and another process may use the other one.
    let recovered = match live.remove_present(created).await {
        Ok(()) => Recovered::rolled_back(entry),
        Err(error) if error.is_connection_loss() => roll_back_create(app, entry, guard, created).await?,
        Err(error) => return Err(error),
    };
    app.committer().end_work(&recovered.entry, recovered.changes).await?;
    if ran && matches!(live.status().await, Ok(Status::IoError)) {
        live.query(&QmpCommand::new("cont")).await?;
    }
    Ok(())
}

/// Awaits work that cannot be cut off; once it is done, returns the error of the job if that was cut off meanwhile.
async fn to_the_end<T>(job: &Job<'_>, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut work = std::pin::pin!(work);
    let cut_off = std::pin::pin!(job.cut_off());
    match select(work.as_mut(), cut_off).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right((error, _)) => {
            job.set_stage("waiting for QEMU, to undo it");
            work.await?;
            Err(error)
        }
    }
}

/// Returns the space that the image of a drive takes on the host.
async fn allocated(app: &App, disk: &LiveDisk) -> Option<u64> {
    let image = ImageUse { path: disk.path.clone(), format: Some("qcow2".to_owned()), access: ImageAccess::Read };
    Some(app.ports.image_tools.chain(&image).await.first()?.actual_size?.bytes())
}
