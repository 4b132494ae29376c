//! Removing checkpoints, and merging the layers that nothing needs any more into the images below them.
//!
//! Only the layer on top is merged, so that no image changes that a checkpoint or another VM builds on: what is below a
//! checkpoint that stays is merged once that is removed, too. Layers that no drive has since a restore are removed. A running QEMU copies the layer into the image below while
//! the guest runs. For the moment in which it gives the guest that image, the guest is paused until this is recorded:
//! otherwise a layer that is outdated could be taken for the disk of the guest after a crash of the host. If it cannot be
//! recorded, the layer is removed before the guest runs: one that is recorded and has no file is merged.
//!
//! A VM runs with layers as well as without them. What cannot be merged therefore stays, and keeps no other operation from
//! the VM.

use std::path::{Path, PathBuf};

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{Guard, HeldLock, ImageFile, ImageWork};
use maqet_domain::qmp::{BlockMedium, JobInfo, JobStatus, QmpCommand, RunState};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::LAYER_FORMAT;
use maqet_domain::vm::{DroppedLayer, MergedLayer, PendingWork, VmEntry, VmId, layers_of, without_top};
use maqet_fault_points::FaultPoint;
use serde_json::Value;

use super::branches::{drop_layers, unneeded, used_without};
use super::error::CheckpointError;
use super::saver::unless_refused;
use crate::app::shown;
use crate::job::qmp_job::QmpJobs;
use crate::job::{Job, ProgressUnit};
use crate::snapshot::live::LiveVm;
use crate::storage::lock::lock_images;
use crate::{App, Error};

/// The operation under which a recovery locks images.
const OPERATION: &str = "checkpoint.rm";

/// The work of a removal, as it was recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun<'w> {
    pub(crate) checkpoints: &'w [PathBuf],
    pub(crate) layers: &'w [MergedLayer],
    pub(crate) dropped: &'w [DroppedLayer],
    pub(crate) resumes: bool,
}

/// What becomes of layers that nothing needs any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct MergePlan {
    /// Those that are merged into the images below, in this order.
    pub(crate) merged: Vec<MergedLayer>,
    /// Those that are removed: since a restore, no drive has them.
    pub(crate) dropped: Vec<DroppedLayer>,
}

/// Returns what becomes of the layers that nothing needs once the checkpoints in the directories `removed` are gone.
pub(crate) async fn plan(app: &App, entry: &VmEntry, removed: &[PathBuf]) -> Result<MergePlan, Error> {
    if entry.layers.is_empty() {
        return Ok(MergePlan::default());
    }
    let Some(used) = used_without(app, entry, removed).await? else { return Ok(MergePlan::default()) };
    let mut merged = Vec::new();
    for layers in &entry.layers {
        let images: Vec<&Path> = layers.images().rev().collect();
        for pair in images.windows(2) {
            let [path, below] = pair else { continue };
            if !used.uses_of(below).await.is_empty() {
                break;
            }
            let file = app.ports.image_tools.identify(path).await.map(|(_, file)| file);
            let (path, below) = ((*path).to_owned(), (*below).to_owned());
            merged.push(MergedLayer { drive: layers.drive.clone(), path, file, below });
        }
    }
    let dropped = unneeded(app, &entry.id, &entry.layers, &used).await?;
    Ok(MergePlan { merged, dropped })
}

/// Refuses layers that cannot be merged without a loss, before anything is changed.
pub(crate) async fn require_mergeable(app: &App, entry: &VmEntry, layers: &[MergedLayer]) -> Result<(), Error> {
    for layer in layers {
        require_no_snapshots(app, entry, &layer.drive, &layer.path).await?;
        let image = maqet_domain::port::ImageUse {
            path: layer.path.clone(),
            format: Some(LAYER_FORMAT.to_owned()),
            access: maqet_domain::storage::ImageAccess::Read,
        };
        let chain = app.ports.image_tools.chain(&image).await;
        let needed = chain.first().and_then(|link| link.actual_size).unwrap_or_default();
        let space = app.ports.maintenance.probe.space(&layer.below).await;
        if let Some(space) = space.filter(|space| space.free_bytes < needed.bytes()) {
            let free = ByteSize::from_bytes(space.free_bytes);
            let (drive, path) = (layer.drive.clone(), layer.below.clone());
            return Err(CheckpointError::MergeSpace { drive, path, needed, free }.into());
        }
    }
    Ok(())
}

/// Locks the images of layers that are merged, unless a running QEMU has them open.
pub(crate) async fn lock_layers(
    app: &App,
    entry: &VmEntry,
    layers: &[MergedLayer],
    operation: &'static str,
) -> Result<Vec<Box<dyn Guard>>, Error> {
    if app.observer().observe_process(entry).await.status.is_live() {
        return Ok(Vec::new());
    }
    let images: Vec<&Path> = layers.iter().flat_map(|layer| [&*layer.path, &*layer.below]).collect();
    lock_images(app, images, operation).await
}

/// Refuses to lose the snapshots inside a layer.
pub(super) async fn require_no_snapshots(app: &App, entry: &VmEntry, drive: &str, layer: &Path) -> Result<(), Error> {
    let snapshots = app.ports.images.snapshots(layer).await?;
    if snapshots.is_empty() {
        return Ok(());
    }
    let names = snapshots.iter().map(|one| format!("`{}`", one.name.escape_debug())).collect();
    let (vm, drive, path) = (entry.name.clone(), drive.to_owned(), layer.to_owned());
    Err(CheckpointError::LayerHasSnapshots { vm, drive, path, names }.into())
}

/// Removes the checkpoints in `directories`, then merges layers; returns the entry of the VM, whose work is pending still.
pub(crate) async fn run(
    app: &App,
    entry: VmEntry,
    guard: &HeldLock,
    job: Option<&Job<'_>>,
    operation: &str,
    directories: Vec<PathBuf>,
    plan: MergePlan,
) -> Result<VmEntry, Error> {
    let MergePlan { merged: layers, dropped } = plan;
    let mut live = LiveVm::open(app, &entry).await?;
    let resumes = match &mut live {
        Some(live) => live.run_state().await? == RunState::Running,
        None => false,
    };
    let (checkpoints, dropped_later) = (directories.clone(), dropped.clone());
    let work = PendingWork::CheckpointRemove { checkpoints, layers: layers.clone(), resumes, dropped: dropped_later };
    let mut entry = app.committer().begin_work(&entry, operation, work, Vec::new()).await?;
    app.faults.reach(FaultPoint::CheckpointMergeMarked);
    for directory in &directories {
        app.ports.checkpoints.remove(directory).await?;
    }
    app.faults.reach(FaultPoint::CheckpointRemoved);
    drop_layers(app, &dropped).await?;
    for layer in &layers {
        if let Some(job) = job {
            job.set_stage(format!("merging the layers of {}", layer.drive));
        }
        match &mut live {
            Some(live) => entry = merge_live(app, live, entry, layer, resumes, job).await?,
            None => entry = merge_stopped(app, entry, guard, layer, job).await?,
        }
        app.faults.reach(FaultPoint::CheckpointLayerMerged);
        if let Some(file) = layer.file {
            app.ports.image_tools.remove(&layer.path, file).await?;
        }
    }
    Ok(entry)
}

async fn merge_stopped(
    app: &App,
    entry: VmEntry,
    guard: &HeldLock,
    layer: &MergedLayer,
    job: Option<&Job<'_>>,
) -> Result<VmEntry, Error> {
    let image = ImageFile { path: layer.path.clone(), format: LAYER_FORMAT.to_owned() };
    let progress = |done, total| {
        if let Some(job) = job {
            job.report(ProgressUnit::Bytes, done, total);
        }
    };
    app.ports.image_tools.commit(&image, &ImageWork { guard, progress: &progress }).await?;
    app.faults.reach(FaultPoint::CheckpointLayerCommitted);
    record_merged(app, &entry, layer).await
}

/// Records that a layer is not the disk of the guest any more; returns the entry of the VM as it is from then on.
async fn record_merged(app: &App, entry: &VmEntry, layer: &MergedLayer) -> Result<VmEntry, Error> {
    let layers = without_top(entry.layers.clone(), &layer.drive);
    let changes = ChangeSet::default()
        .and(Change::LayersChanged { id: entry.id, expected: entry.revision, layers: layers.clone() })
        .and(Change::StorageRemoved { path: layer.path.clone() });
    app.committer().commit(changes).await?;
    Ok(VmEntry { layers, revision: entry.revision.next(), ..entry.clone() })
}

async fn merge_live(
    app: &App,
    live: &mut LiveVm<'_>,
    entry: VmEntry,
    layer: &MergedLayer,
    resumes: bool,
    job: Option<&Job<'_>>,
) -> Result<VmEntry, Error> {
    let not_attached = || {
        let (vm, drive, path) = (entry.name.clone(), layer.drive.clone(), layer.path.clone());
        Error::from(CheckpointError::LayerNotAttached { vm, drive, path })
    };
    let media = live.media().await?;
    let top = media.iter().find(|medium| medium.file == layer.path).ok_or_else(not_attached)?.node.clone();
    let nodes = live.block_nodes().await?;
    let below = node_of(&nodes, &layer.below).ok_or_else(not_attached)?;
    let id = QmpJobs::id("merge", app.committer().now());
    let commit = QmpCommand::new("block-commit")
        .with("job-id", id.as_str())
        .with("device", top.as_str())
        .with("base-node", below)
        .with("auto-dismiss", false);
    let is_ready = |info: &JobInfo| info.status == JobStatus::Ready || info.has_ended();
    let progress = |done, total| {
        if let Some(job) = job {
            job.report(ProgressUnit::Bytes, done, total);
        }
    };
    let mut jobs = QmpJobs::start(live.session(), vec![id.clone()], &commit).await?;
    jobs.wait(is_ready, progress).await?;
    app.faults.reach(FaultPoint::CheckpointLayerCommitted);
    if resumes {
        live.query(&QmpCommand::new("stop")).await?;
    }
    if let Err(error) = pivot(live, id).await {
        // The guest stays paused while it is unknown which image it has.
        if !is_pivoted(&live.media().await?, layer) {
            if resumes {
                live.run_on().await?;
            }
            return Err(error);
        }
    }
    app.faults.reach(FaultPoint::CheckpointPivoted);
    let recorded = record_merged(app, &entry, layer).await;
    if let (Err(error), Some(file)) = (&recorded, layer.file) {
        tracing::warn!(vm = %entry.name, %error, "could not record a layer that was merged");
        app.ports.image_tools.remove(&layer.path, file).await?;
    }
    if resumes {
        live.run_on().await?;
    }
    let entry = recorded?;
    close(live, &nodes, &layer.path).await?;
    Ok(entry)
}

/// Returns whether the guest has the image below a layer.
fn is_pivoted(media: &[BlockMedium], layer: &MergedLayer) -> bool {
    let has = |image: &Path| media.iter().any(|medium| medium.file == image);
    has(&layer.below) && !has(&layer.path)
}

/// Gives the guest the image below.
async fn pivot(live: &mut LiveVm<'_>, id: String) -> Result<(), Error> {
    // One that is refused has ended already, and says why.
    unless_refused(live.query(&QmpCommand::new("job-complete").with("id", id.as_str())).await)?;
    let mut jobs = QmpJobs::of(live.session(), vec![id]);
    let ended = jobs.conclude(|_, _| {}).await;
    jobs.dismiss().await?;
    ended
}

/// Returns the node that reads an image in its format.
fn node_of(nodes: &[Value], image: &Path) -> Option<String> {
    let image = shown(image);
    let is_it = |node: &&Value| node["file"] == image.as_str() && node["drv"] != "file" && node["drv"] != "host_device";
    nodes.iter().find(is_it).and_then(|node| node["node-name"].as_str()).map(str::to_owned)
}

/// Closes the nodes of an image, as far as QEMU does not do so itself.
async fn close(live: &mut LiveVm<'_>, nodes: &[Value], image: &Path) -> Result<(), Error> {
    let image = shown(image);
    let (files, formats): (Vec<&Value>, Vec<&Value>) =
        nodes.iter().filter(|node| node["file"] == image.as_str()).partition(|node| node["drv"] == "file");
    for node in formats.into_iter().chain(files) {
        let name = node["node-name"].as_str().unwrap_or_default();
        unless_refused(live.query(&QmpCommand::new("blockdev-del").with("node-name", name)).await)?;
    }
    Ok(())
}

/// Ends the jobs of a process that was killed, and records which layers are merged; the guest runs on if it did.
async fn reconcile(app: &App, live: &mut LiveVm<'_>, entry: VmEntry, work: &Begun<'_>) -> Result<VmEntry, Error> {
    let mut entry = entry;
    let mut jobs = QmpJobs::stale(live.session()).await?;
    jobs.cancel().await?;
    jobs.dismiss().await?;
    let media = live.media().await?;
    let nodes = live.block_nodes().await?;
    for layer in work.layers {
        if is_top(&entry, layer) && is_pivoted(&media, layer) {
            entry = record_merged(app, &entry, layer).await?;
        }
    }
    if work.resumes && live.run_state().await? == RunState::Paused {
        live.run_on().await?;
    }
    for layer in work.layers {
        if !media.iter().any(|medium| medium.file == layer.path) {
            close(live, &nodes, &layer.path).await?;
        }
    }
    Ok(entry)
}

/// Returns whether a layer is recorded as the disk of the guest.
fn is_top(entry: &VmEntry, layer: &MergedLayer) -> bool {
    layers_of(&entry.layers, &layer.drive).is_some_and(|layers| layers.top() == layer.path)
}

/// Finishes the layer that was being merged when a process was killed or failed, and leaves nothing of those that are merged;
/// returns the entry of the VM as it is from then on.
pub(super) async fn finish(app: &App, entry: VmEntry, work: &Begun<'_>) -> Result<VmEntry, Error> {
    let mut entry = entry;
    match LiveVm::open(app, &entry).await? {
        Some(mut live) => entry = reconcile(app, &mut live, entry, work).await?,
        None => {
            for layer in work.layers {
                // Removed, because the guest had the image below and that could not be recorded.
                if layer.file.is_some() && is_top(&entry, layer) && !app.ports.images.exists(&layer.path).await {
                    entry = record_merged(app, &entry, layer).await?;
                }
            }
        }
    }
    remove_merged(app, &entry, work.layers).await?;
    drop_layers(app, work.dropped).await?;
    Ok(entry)
}

/// Merges what nothing needs any more, once a checkpoint or a removal was cut off; returns the entry of the VM, whose work is
/// pending still. What cannot be merged stays until the next removal.
pub(super) async fn merge_rest(
    app: &App,
    entry: VmEntry,
    guard: &HeldLock,
    operation: &str,
    directories: Vec<PathBuf>,
) -> Result<VmEntry, Error> {
    if is_saved(app, &entry).await? {
        return Ok(entry);
    }
    let plan = plan(app, &entry, &[]).await?;
    if let Err(error) = require_mergeable(app, &entry, &plan.merged).await {
        tracing::warn!(vm = %entry.name, %error, "layers stay");
        return Ok(entry);
    }
    let locked = match lock_layers(app, &entry, &plan.merged, OPERATION).await {
        Ok(locked) => locked,
        Err(error) => {
            tracing::warn!(vm = %entry.name, %error, "layers stay");
            return Ok(entry);
        }
    };
    let id = entry.id;
    let merged = run(app, entry, guard, None, operation, directories, plan).await;
    drop(locked);
    match merged {
        Ok(entry) => Ok(entry),
        Err(error) => {
            tracing::warn!(%error, "layers stay");
            keep_rest(app, &id).await?.ok_or(error)
        }
    }
}

/// Keeps the layers that could not be merged; returns the entry of the VM, whose work is pending still.
pub(crate) async fn keep_rest(app: &App, id: &VmId) -> Result<Option<VmEntry>, Error> {
    let Some(vm) = app.ports.store.by_id(id).await? else { return Ok(None) };
    let Some(PendingWork::CheckpointRemove { checkpoints, layers, resumes, dropped }) =
        vm.entry.pending.as_ref().map(|pending| pending.work.clone())
    else {
        return Ok(Some(vm.entry));
    };
    let work = Begun { checkpoints: &checkpoints, layers: &layers, dropped: &dropped, resumes };
    finish(app, vm.entry, &work).await.map(Some)
}

/// Returns whether QEMU has saved its guest and given its images away: it cannot merge them before the guest runs again.
pub(crate) async fn is_saved(app: &App, entry: &VmEntry) -> Result<bool, Error> {
    match LiveVm::open(app, entry).await? {
        Some(mut live) => Ok(matches!(live.run_state().await?, RunState::Postmigrate | RunState::FinishMigrate)),
        None => Ok(false),
    }
}

/// Removes the files of layers that are recorded as merged.
async fn remove_merged(app: &App, entry: &VmEntry, layers: &[MergedLayer]) -> Result<(), Error> {
    for layer in layers {
        let known = layers_of(&entry.layers, &layer.drive);
        let is_merged = known.is_none_or(|known| !known.tops.contains(&layer.path));
        if let Some(file) = layer.file.filter(|_| is_merged) {
            app.ports.image_tools.remove(&layer.path, file).await?;
        }
    }
    Ok(())
}
