//! Removing checkpoints, and merging the layers that nothing needs any more into the images below them.
//!
//! Only the layer on top is merged, so that no image changes that a checkpoint or another VM builds on: what is below a
//! checkpoint that stays is merged once that is removed, too. A running QEMU copies the layer into the image below while
//! the guest runs. For the moment in which it gives the guest that image, the guest is paused until this is recorded:
//! otherwise a layer that is outdated could be taken for the disk of the guest after a crash of the host.

use std::path::{Path, PathBuf};

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::port::{HeldLock, ImageFile, ImageWork};
use maqet_domain::qmp::{BlockMedium, JobInfo, JobStatus, QmpCommand, QmpError, RunState};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::LAYER_FORMAT;
use maqet_domain::vm::{MergedLayer, PendingWork, VmEntry, layers_of, without_top};
use maqet_fault_points::FaultPoint;
use serde_json::Value;

use super::error::CheckpointError;
use super::place::Place;
use crate::app::shown;
use crate::job::qmp_job::QmpJobs;
use crate::job::{Job, ProgressUnit};
use crate::snapshot::live::LiveVm;
use crate::trash::own_images::unused_images;
use crate::trash::used_files::{FileUse, UsedFiles};
use crate::{App, Error};

/// The work of a removal, as it was recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun<'w> {
    pub(crate) checkpoints: &'w [PathBuf],
    pub(crate) layers: &'w [MergedLayer],
    pub(crate) resumes: bool,
}

/// Returns how anything but a VM itself uses an image: other VMs, images without a VM, the trash.
pub(crate) async fn other_uses(app: &App, entry: &VmEntry, image: &Path) -> Result<Vec<FileUse>, Error> {
    let mut files = UsedFiles::of_vms(app, Some(&entry.id)).await?;
    // Images are without a VM only if this one does not use them, either.
    let own = UsedFiles::of_vms(app, None).await?;
    let unused = unused_images(app, &own).await?;
    files.add_images(&unused).await;
    files.add_trash(&app.ports.trash.entries().await?).await;
    Ok(files.uses_of(image).await)
}

/// Returns the layers that nothing needs once the checkpoints in the directories `removed` are gone, in the order in which
/// they are merged.
pub(crate) async fn plan(app: &App, entry: &VmEntry, removed: &[PathBuf]) -> Result<Vec<MergedLayer>, Error> {
    let place = Place::read(app, &entry.id).await?;
    if place.listing.unusable.iter().any(|(directory, _)| !removed.contains(directory)) {
        // It may need any of them.
        return Ok(Vec::new());
    }
    let kept = place.listing.checkpoints.iter().filter(|found| !removed.contains(&found.directory));
    let frozen: Vec<&Path> =
        kept.flat_map(|found| found.manifest.disks.iter().map(|disk| disk.file.as_path())).collect();
    let mut merged = Vec::new();
    for layers in &entry.layers {
        let images: Vec<&Path> = layers.images().rev().collect();
        for pair in images.windows(2) {
            let [path, below] = pair else { continue };
            if frozen.contains(below) || !other_uses(app, entry, below).await?.is_empty() {
                break;
            }
            let file = app.ports.image_tools.identify(path).await.map(|(_, file)| file);
            let (path, below) = ((*path).to_owned(), (*below).to_owned());
            merged.push(MergedLayer { drive: layers.drive.clone(), path, file, below });
        }
    }
    Ok(merged)
}

/// Refuses layers that cannot be merged without a loss, before anything is changed.
pub(crate) async fn require_mergeable(app: &App, entry: &VmEntry, layers: &[MergedLayer]) -> Result<(), Error> {
    for layer in layers {
        let snapshots = app.ports.images.snapshots(&layer.path).await?;
        if !snapshots.is_empty() {
            let names = snapshots.iter().map(|one| format!("`{}`", one.name.escape_debug())).collect();
            let (vm, drive, path) = (entry.name.clone(), layer.drive.clone(), layer.path.clone());
            return Err(CheckpointError::LayerHasSnapshots { vm, drive, path, names }.into());
        }
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

/// Removes the checkpoints in `directories`, then merges layers; returns the entry of the VM, whose work is pending still.
pub(crate) async fn run(
    app: &App,
    entry: VmEntry,
    guard: &HeldLock,
    job: Option<&Job<'_>>,
    operation: &str,
    directories: Vec<PathBuf>,
    layers: Vec<MergedLayer>,
) -> Result<VmEntry, Error> {
    let mut live = LiveVm::open(app, &entry).await?;
    let resumes = match &mut live {
        Some(live) => live.run_state().await? == RunState::Running,
        None => false,
    };
    let work = PendingWork::CheckpointRemove { checkpoints: directories.clone(), layers: layers.clone(), resumes };
    let mut entry = app.committer().begin_work(&entry, operation, work, Vec::new()).await?;
    app.faults.reach(FaultPoint::CheckpointMergeMarked);
    for directory in &directories {
        app.ports.checkpoints.remove(directory).await?;
    }
    app.faults.reach(FaultPoint::CheckpointRemoved);
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
    let pivoted = pivot(live, id).await;
    let entry = match pivoted {
        Ok(()) => {
            app.faults.reach(FaultPoint::CheckpointPivoted);
            record_merged(app, &entry, layer).await
        }
        Err(error) => Err(error),
    };
    if resumes {
        live.run_on().await?;
    }
    let entry = entry?;
    close(live, &nodes, &layer.path).await?;
    Ok(entry)
}

/// Gives the guest the image below.
async fn pivot(live: &mut LiveVm<'_>, id: String) -> Result<(), Error> {
    match live.query(&QmpCommand::new("job-complete").with("id", id.as_str())).await {
        // It has ended already, and says why.
        Ok(_) | Err(QmpError::Refused { .. }) => {}
        Err(error) => return Err(error.into()),
    }
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
        match live.query(&QmpCommand::new("blockdev-del").with("node-name", name)).await {
            Ok(_) | Err(QmpError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Ends the jobs of a process that was killed, and records which layers are merged; the guest runs on if it did.
pub(super) async fn settle(
    app: &App,
    live: &mut LiveVm<'_>,
    entry: VmEntry,
    work: &Begun<'_>,
) -> Result<VmEntry, Error> {
    let mut entry = entry;
    let mut jobs = QmpJobs::left_over(live.session()).await?;
    jobs.cancel().await?;
    jobs.dismiss().await?;
    let media = live.media().await?;
    let nodes = live.block_nodes().await?;
    let has = |image: &Path| media.iter().any(|medium: &BlockMedium| medium.file == image);
    for layer in work.layers {
        let is_top = layers_of(&entry.layers, &layer.drive).is_some_and(|layers| layers.top() == layer.path);
        if is_top && has(&layer.below) && !has(&layer.path) {
            entry = record_merged(app, &entry, layer).await?;
        }
    }
    if work.resumes && live.run_state().await? == RunState::Paused {
        live.run_on().await?;
    }
    for layer in work.layers {
        if !has(&layer.path) {
            close(live, &nodes, &layer.path).await?;
        }
    }
    Ok(entry)
}

/// Removes the files of layers that are recorded as merged.
pub(super) async fn remove_merged(app: &App, entry: &VmEntry, layers: &[MergedLayer]) -> Result<(), Error> {
    for layer in layers {
        let known = layers_of(&entry.layers, &layer.drive);
        let is_merged = known.is_none_or(|known| !known.tops.contains(&layer.path));
        if let Some(file) = layer.file.filter(|_| is_merged) {
            app.ports.image_tools.remove(&layer.path, file).await?;
        }
    }
    Ok(())
}
