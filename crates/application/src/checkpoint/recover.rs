//! What becomes of a checkpoint whose process was killed: it is finished if QEMU has written everything, or does so; else it
//! is undone.
//!
//! | found | then |
//! | --- | --- |
//! | the disks have no layers | the layers are closed and removed, the guest runs on |
//! | layers, QEMU has not begun to write | the guest runs on, the layers are merged |
//! | layers, QEMU writes | the guest runs on once its devices were taken, and the end is waited for |
//! | QEMU has written everything | the stream is taken apart |
//! | QEMU failed, or the checkpoint was canceled | the layers are merged |
//! | QEMU is gone | the layers stay, as the guest may have written to them, until they are merged |
//!
//! Layers that cannot be merged stay as well; the next removal of a checkpoint merges them.

use maqet_domain::change::Change;
use maqet_domain::checkpoint::ladder::can_cancel_background;
use maqet_domain::checkpoint::{CheckpointManifest, CheckpointMethod};
use maqet_domain::port::HeldLock;
use maqet_domain::qmp::{MigrationStatus, RunState};
use maqet_domain::vm::{CheckpointWork, NewLayer, VmEntry, layers_of};

use super::branches::remove_created;
use super::error::CheckpointError;
use super::preflight::query_migrate;
use super::saver::mark_of;
use super::{cancel, create, merge};
use crate::app::recovered::Recovered;
use crate::snapshot::live::LiveVm;
use crate::{App, Error};

/// The operation of the work.
const OPERATION: &str = "checkpoint.create";

/// Finishes a checkpoint, or undoes it.
pub(crate) async fn recover_create(
    app: &App,
    entry: &VmEntry,
    guard: &HeldLock,
    work: &CheckpointWork,
) -> Result<Recovered, Error> {
    if app.ports.images.exists(&work.complete).await && !app.ports.images.exists(&work.partial).await {
        // Only the last commit is missing, or what was to follow while the guest stays paused.
        if let Some(mut live) = LiveVm::open(app, entry).await? {
            resume(&mut live, work).await?;
            live.end_saving(work.bandwidth).await?;
        }
        return Ok(Recovered::finished(entry));
    }
    let is_wanted = !cancel::is_requested(app, &work.partial).await;
    let entry = match LiveVm::open(app, entry).await? {
        Some(live) if is_wanted => match finish_saving(app, live, entry, work).await? {
            Some(entry) => entry,
            None => return undo(app, entry, guard, work).await,
        },
        // The guest ran on once the layers were recorded; the stream may be complete.
        None if is_wanted && is_recorded(entry, &work.layers) => entry.clone(),
        _ => return undo(app, entry, guard, work).await,
    };
    match create::complete(app, work).await {
        Ok(_) => Ok(Recovered::finished(&entry)),
        Err(error) => {
            tracing::warn!(vm = %entry.name, %error, "a checkpoint is not complete");
            undo(app, &entry, guard, work).await
        }
    }
}

/// Waits until QEMU has written everything; `None` if it did not begin, or failed.
async fn finish_saving(
    app: &App,
    mut live: LiveVm<'_>,
    entry: &VmEntry,
    work: &CheckpointWork,
) -> Result<Option<VmEntry>, Error> {
    if !has_begun(&mut live, work).await? {
        return Ok(None);
    }
    if method(work) == CheckpointMethod::BackgroundSnapshot {
        live.wait_for_memory().await?;
        resume(&mut live, work).await?;
    }
    let info = live.wait_for_end(|_| {}).await?;
    if info.status != MigrationStatus::Completed {
        return Ok(None);
    }
    resume(&mut live, work).await?;
    live.end_saving(work.bandwidth).await?;
    if is_recorded(entry, &work.layers) {
        return Ok(Some(entry.clone()));
    }
    Ok(Some(create::record_layers(app, entry, OPERATION, work).await?))
}

fn method(work: &CheckpointWork) -> CheckpointMethod {
    let manifest = serde_json::from_value::<CheckpointManifest>(work.draft.clone());
    manifest.map_or(CheckpointMethod::Other, |manifest| manifest.method)
}

/// Returns whether QEMU began to save the VM for this checkpoint: its last migration is another one than before.
async fn has_begun(live: &mut LiveVm<'_>, work: &CheckpointWork) -> Result<bool, Error> {
    if !work.layers.is_empty() && !live.is_layered(&work.layers).await? {
        return Ok(false);
    }
    let reply = live.query(&query_migrate()).await?;
    Ok(mark_of(&reply) != work.earlier)
}

/// Lets a guest run on that was paused for the checkpoint.
async fn resume(live: &mut LiveVm<'_>, work: &CheckpointWork) -> Result<(), Error> {
    if !work.resumes {
        return Ok(());
    }
    match live.run_state().await? {
        RunState::Paused | RunState::Postmigrate | RunState::FinishMigrate => live.run_on().await,
        _ => Ok(()),
    }
}

/// Returns whether it is recorded that the guest writes to the layers.
fn is_recorded(entry: &VmEntry, layers: &[NewLayer]) -> bool {
    let is_top =
        |layer: &NewLayer| layers_of(&entry.layers, &layer.drive).is_some_and(|known| known.tops.contains(&layer.path));
    !layers.is_empty() && layers.iter().all(is_top)
}

/// Leaves nothing of a checkpoint: the guest runs on, and its disks are as if there had been none.
pub(super) async fn undo(
    app: &App,
    entry: &VmEntry,
    guard: &HeldLock,
    work: &CheckpointWork,
) -> Result<Recovered, Error> {
    let mut entry = entry.clone();
    let mut has_layers = is_recorded(&entry, &work.layers);
    match LiveVm::open(app, &entry).await? {
        Some(mut live) => {
            stop_saving(&mut live, &entry, work).await?;
            resume(&mut live, work).await?;
            live.end_saving(work.bandwidth).await?;
            if live.is_layered(&work.layers).await? {
                has_layers = true;
            } else {
                live.close_layers(&work.layers).await?;
            }
        }
        None => has_layers = has_layers || all_exist(app, &work.layers).await,
    }
    if has_layers && !is_recorded(&entry, &work.layers) {
        entry = create::record_layers(app, &entry, OPERATION, work).await?;
    }
    app.ports.checkpoints.remove(&work.partial).await?;
    if has_layers {
        entry = merge::merge_rest(app, entry, guard, OPERATION, Vec::new()).await?;
        return Ok(Recovered::rolled_back(&entry));
    }
    for layer in &work.layers {
        remove_created(app, &layer.path).await?;
    }
    Ok(Recovered::rolled_back(&entry))
}

/// Has QEMU stop writing, if it does, in a way that does not leave the guest hanging.
async fn stop_saving(live: &mut LiveVm<'_>, entry: &VmEntry, work: &CheckpointWork) -> Result<(), Error> {
    if !has_begun(live, work).await? {
        return Ok(());
    }
    let is_background = method(work) == CheckpointMethod::BackgroundSnapshot;
    let (version, _) = live.version_and_package().await?;
    let can_cancel = !is_background || can_cancel_background(version);
    let info = live.migration().await?;
    if !info.is_under_way() {
        if info.status != MigrationStatus::Completed && !can_cancel {
            let reason = info.error.unwrap_or_else(|| "it was canceled".to_owned());
            return Err(CheckpointError::GuestHangs { vm: entry.name.clone(), reason }.into());
        }
        return Ok(());
    }
    if can_cancel {
        live.cancel_saving().await?;
    } else {
        live.wait_for_memory().await?;
        resume(live, work).await?;
        live.wait_for_end(|_| {}).await?;
    }
    Ok(())
}

async fn all_exist(app: &App, layers: &[NewLayer]) -> bool {
    for layer in layers {
        if !app.ports.images.exists(&layer.path).await {
            return false;
        }
    }
    !layers.is_empty()
}

/// Removes the remaining checkpoints of a removal, and merges the remaining layers.
pub(crate) async fn finish_remove(
    app: &App,
    entry: &VmEntry,
    guard: &HeldLock,
    work: merge::Begun<'_>,
) -> Result<Recovered, Error> {
    let mut entry = entry.clone();
    for directory in work.checkpoints {
        app.ports.checkpoints.remove(directory).await?;
    }
    entry = merge::finish(app, entry, &work).await?;
    let entry = merge::merge_rest(app, entry, guard, "checkpoint.rm", work.checkpoints.to_vec()).await?;
    Ok(Recovered { changes: Vec::<Change>::new(), ..Recovered::finished(&entry) })
}
