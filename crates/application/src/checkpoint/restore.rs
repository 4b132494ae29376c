//! A VM that goes back to a checkpoint: its disks get new layers over the frozen images, and another QEMU goes on from the
//! memory.
//!
//! ```text
//!            layers are      old QEMU       new QEMU has
//!  marked ─▶ created ──────▶ ended ───────▶ loaded ────────▶ done
//!                                              │
//!     ◀──── all is as it was before ────┘      └── only the rest is left ───▶
//! ```
//!
//! Until the new QEMU has loaded the state, the layers of before are those that are recorded, and nothing of them is
//! changed: what fails, or is cut off, removes the new ones, and the old QEMU lets its guest run on, if it was not ended
//! yet. From the moment on in which the new layers are recorded, before the guest runs, only the rest is done: the guest
//! runs, and what nothing needs any more is removed.

use std::path::{Path, PathBuf};

use maqet_domain::change::{Change, ChangeSet};
use maqet_domain::config::Node;
use maqet_domain::port::{FoundCheckpoint, HeldLock, ImageWork};
use maqet_domain::qmp::{QmpCommand, RunState};
use maqet_domain::vm::{
    DriveLayers, DroppedLayer, PendingWork, QemuProcess, ReplacedVariables, RestoreWork, Vm, VmEntry, layers_of,
};
use maqet_fault_points::FaultPoint;

use super::branches::{
    create_layer, drop_layers, layer_record, layers_up_to, new_layers, remove_created, unneeded, used_without,
};
use super::merge;
use super::resume::{Purpose, Resumed};
use crate::app::recovered::Recovered;
use crate::config::origins;
use crate::snapshot::live::LiveVm;
use crate::snapshot::live::load::end_after_load;
use crate::{App, Error};

/// The operation of the work.
pub(crate) const OPERATION: &str = "checkpoint.restore";

/// The ending of the name of the UEFI variable store until its successor is in use.
const KEPT: &str = ".before-restore";

/// The ending of the name of a copy of the UEFI variable store of a checkpoint.
const NEW: &str = ".restored";

/// A VM as it is started from one of its checkpoints: the definition is that of the checkpoint, and so are the disks.
///
/// Errors: `Refused`, with all reasons; those of the files of the checkpoint.
pub(crate) async fn past_vm(app: &App, vm: &Vm, found: &FoundCheckpoint) -> Result<Vm, Error> {
    let manifest = &found.manifest;
    let definition: Node = manifest.definition.clone();
    let mut layers: Vec<DriveLayers> = Vec::new();
    let mut reasons = Vec::new();
    for disk in &manifest.disks {
        match layers_up_to(app, &vm.entry, disk).await {
            Some(up_to) => layers.push(up_to),
            None => {
                reasons.push(format!("the image of drive `{}` does not build on that of the definition", disk.drive));
            }
        }
    }
    let others = vm.entry.layers.iter().filter(|known| layers_of(&layers, &known.drive).is_none());
    let all: Vec<DriveLayers> = others.chain(&layers).filter(|layers| !layers.tops.is_empty()).cloned().collect();
    let entry = VmEntry { layers: all, ..vm.entry.clone() };
    let past = Vm { entry, origins: origins(&definition), definition };
    let machine = app.machine(&past)?;
    let resumed = Resumed { checkpoint: found, purpose: Purpose::Restore, disconnected: &[] };
    resumed.require_usable(app, &machine, reasons).await?;
    Ok(past)
}

/// Returns what is done so that a VM goes back to a checkpoint; its guest `ran` before, or `runs` afterwards. Nothing is
/// changed.
pub(crate) async fn plan_work(
    app: &App,
    entry: &VmEntry,
    found: &FoundCheckpoint,
    (ran, runs): (bool, bool),
) -> Result<RestoreWork, Error> {
    let bases = found.manifest.disks.iter().filter_map(|disk| {
        let layers = layers_of(&entry.layers, &disk.drive)?;
        Some((disk.drive.as_str(), &*layers.base))
    });
    let created = new_layers(app, entry, &bases.collect::<Vec<_>>()).await;
    let mut layers = entry.layers.clone();
    for (disk, new) in found.manifest.disks.iter().zip(&created) {
        if let Some(mut up_to) = layers_up_to(app, entry, disk).await {
            up_to.tops.push(new.path.clone());
            layers.retain(|layers| layers.drive != up_to.drive);
            layers.push(up_to);
        }
    }
    let dropped = match used_without(app, entry, &[]).await? {
        Some(used) => unneeded(app, &entry.id, &layers, &used).await?,
        None => Vec::new(),
    };
    let variables = match &found.manifest.uefi_variables {
        Some(_) => {
            let path = app.preflight().uefi_variables(&entry.name);
            let old = app.ports.image_tools.identify(&path).await.map(|(_, file)| file);
            Some(ReplacedVariables { old, kept: with_ending(&path, KEPT), new: with_ending(&path, NEW), path })
        }
        None => None,
    };
    let (boot, _) = app.folders.next_run(entry);
    Ok(RestoreWork { created, layers, dropped, variables, boot, ran, runs, is_loaded: false })
}

/// Refuses to lose snapshots inside layers that are not needed any more.
pub(crate) async fn require_no_snapshots(app: &App, entry: &VmEntry, found: &FoundCheckpoint) -> Result<(), Error> {
    for DroppedLayer { drive, path, .. } in plan_work(app, entry, found, (false, false)).await?.dropped {
        if app.ports.images.exists(&path).await {
            merge::require_no_snapshots(app, entry, &drive, &path).await?;
        }
    }
    Ok(())
}

/// Pauses a guest that runs.
pub(crate) async fn pause(app: &App, entry: &VmEntry) -> Result<(), Error> {
    if let Some(mut live) = LiveVm::open(app, entry).await?
        && live.run_state().await? == RunState::Running
    {
        live.query(&QmpCommand::new("stop")).await?;
    }
    Ok(())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// Returns the records of the new layers.
pub(crate) fn records(app: &App, entry: &VmEntry, work: &RestoreWork) -> Vec<Change> {
    work.created.iter().map(|layer| layer_record(app, entry, layer)).collect()
}

/// Creates the new layers, and the copy of the UEFI variables.
pub(crate) async fn prepare(
    app: &App,
    found: &FoundCheckpoint,
    work: &RestoreWork,
    guard: &HeldLock,
) -> Result<(), Error> {
    for (disk, layer) in found.manifest.disks.iter().zip(&work.created) {
        create_layer(app, &layer.path, (&disk.file, &disk.format), disk.virtual_bytes).await?;
    }
    if let (Some(copy), Some(variables)) = (&found.manifest.uefi_variables, &work.variables) {
        let tool = ImageWork { guard, progress: &|_, _| {} };
        app.ports.image_tools.copy(&found.directory.join(&copy.file), &variables.new, &tool).await?;
    }
    Ok(())
}

/// Puts the UEFI variables of the checkpoint in their place; no QEMU has the old ones open.
pub(crate) async fn replace_variables(app: &App, work: &RestoreWork) -> Result<(), Error> {
    let Some(variables) = &work.variables else { return Ok(()) };
    if variables.old.is_some() {
        app.ports.backups.rename(&variables.path, &variables.kept).await?;
    }
    Ok(app.ports.backups.rename(&variables.new, &variables.path).await?)
}

/// Records that the VM has the new layers, and that only the rest is left; returns the entry as it is from then on.
pub(crate) async fn mark_loaded(app: &App, entry: &VmEntry, work: &mut RestoreWork) -> Result<VmEntry, Error> {
    work.is_loaded = true;
    let layers = work.layers.clone();
    let layering = Change::LayersChanged { id: entry.id, expected: entry.revision, layers: layers.clone() };
    let layered = VmEntry { layers, revision: entry.revision.next(), ..entry.clone() };
    let pending = PendingWork::CheckpointRestore(Box::new(work.clone()));
    app.committer().begin_last_step(&layered, OPERATION, pending, ChangeSet::default().and(layering)).await
}

/// Lets the guest run, and removes what nothing needs any more.
pub(crate) async fn finish(app: &App, entry: &VmEntry, work: &RestoreWork) -> Result<(), Error> {
    if work.runs
        && let Some(mut live) = LiveVm::open(app, entry).await?
        && matches!(live.run_state().await?, RunState::Paused | RunState::Prelaunch)
    {
        live.query(&QmpCommand::new("cont")).await?;
    }
    app.faults.reach(FaultPoint::CheckpointRestoreResumed);
    drop_layers(app, &work.dropped).await?;
    if let Some(ReplacedVariables { kept, old: Some(old), .. }) = &work.variables {
        app.ports.image_tools.remove(kept, *old).await?;
    }
    Ok(())
}

/// Finishes a restore whose process was killed, or leaves nothing of it.
pub(crate) async fn recover(app: &App, entry: &VmEntry, work: &RestoreWork) -> Result<Recovered, Error> {
    if work.is_loaded {
        finish(app, entry, work).await?;
        return Ok(Recovered::finished(entry));
    }
    roll_back(app, entry, work).await
}

/// Leaves nothing of a restore that did not get as far as to load the state.
async fn roll_back(app: &App, entry: &VmEntry, work: &RestoreWork) -> Result<Recovered, Error> {
    let mut entry = entry.clone();
    match entry.open_run().cloned() {
        Some(run) if run.boot == work.boot => {
            // Its guest has not run.
            let process = app.observer().observe_process(&entry).await.process;
            match process {
                Some(QemuProcess::Visible(process)) => {
                    entry = end_after_load(app, &entry, &run, &process).await?;
                }
                Some(QemuProcess::Hidden) => {
                    return Err(Error::ProcessHidden { vm: entry.name.clone(), is_forced: false });
                }
                None => {}
            }
        }
        Some(_) if work.ran => {
            if let Some(mut live) = LiveVm::open(app, &entry).await?
                && matches!(live.run_state().await?, RunState::Paused | RunState::Postmigrate | RunState::FinishMigrate)
            {
                live.run_on().await?;
            }
        }
        _ => {}
    }
    if let Some(variables) = &work.variables {
        put_back(app, variables).await?;
    }
    let mut changes = Vec::new();
    for layer in &work.created {
        remove_created(app, &layer.path).await?;
        changes.push(Change::StorageRemoved { path: layer.path.clone() });
    }
    Ok(Recovered { changes, ..Recovered::rolled_back(&entry) })
}

/// Puts the old UEFI variables back in their place.
async fn put_back(app: &App, variables: &ReplacedVariables) -> Result<(), Error> {
    let tools = &app.ports.image_tools;
    let is_moved = match variables.old {
        Some(old) => tools.identify(&variables.kept).await.is_some_and(|(_, found)| found == old),
        None => true,
    };
    if is_moved {
        if let Some((path, file)) = tools.identify(&variables.path).await {
            tools.remove(&path, file).await?;
        }
        if variables.old.is_some() {
            app.ports.backups.rename(&variables.kept, &variables.path).await?;
        }
    }
    remove_created(app, &variables.new).await
}

/// Ends a restore that failed: what can be, is as it was before.
pub(crate) async fn give_up(app: &App, entry: &VmEntry, guard: &HeldLock) -> Result<VmEntry, Error> {
    let vm = app.ports.store.by_id(&entry.id).await?;
    let entry = vm.map_or_else(|| entry.clone(), |vm| vm.entry);
    let Some(pending) = entry.pending.clone() else { return Ok(entry) };
    let recovered = match &pending.work {
        PendingWork::CheckpointCreate(work) => super::recover::recover_create(app, &entry, guard, work).await?,
        PendingWork::CheckpointRestore(work) => recover(app, &entry, work).await?,
        _ => return Ok(entry),
    };
    app.committer().end_work(&recovered.entry, recovered.changes).await
}
