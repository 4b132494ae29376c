//! Moves images of an entry of the trash back to a VM.

use std::path::PathBuf;

use maqet_domain::port::TrashError;
use maqet_domain::trash::{TrashEntry, TrashedImage, TrashedImageLocation};
use maqet_domain::vm::VmName;
use maqet_fault_points::FaultPoint;

use super::entries::locate;
use super::error::TrashRefusal;
use super::used_files::UsedFiles;
use crate::{App, Error};

/// Returns where an image was, or where the restore that is under way moves it.
pub(crate) fn original_path(app: &App, entry: &TrashEntry, image: &TrashedImage) -> PathBuf {
    let path = &image.record.path;
    match (&entry.restoring, path.file_name()) {
        (Some(name), Some(file)) if image.is_default => app.folders.vm_storage(name).join(file),
        _ => path.clone(),
    }
}

/// Moves all images of an entry back, to the paths of a VM named `name`; or none, if one cannot be moved.
///
/// The caller holds the lock of the trash. Returns the entry with the paths from then on.
pub(crate) async fn move_to_vm(app: &App, entry: TrashEntry, name: &VmName) -> Result<TrashEntry, Error> {
    let entry = return_to_trash(app, entry).await?;
    let renamed = (*name != entry.vm.name).then(|| name.clone());
    let target = TrashEntry { restoring: renamed, ..entry };
    let files = UsedFiles::of_vms(app, Some(&target.vm.id)).await?;
    for image in &target.images {
        let path = original_path(app, &target, image);
        match locate(app, &target, image).await {
            TrashedImageLocation::Trash if app.ports.images.exists(&path).await => {
                return Err(TrashError::Exists { from: image.trash.clone(), to: path }.into());
            }
            TrashedImageLocation::Trash => {}
            TrashedImageLocation::Original => {
                let uses = files.uses_of(&path).await;
                if !uses.is_empty() {
                    return Err(TrashRefusal::RestoredImageUsed { entry: target.id, uses }.into());
                }
            }
            TrashedImageLocation::Missing => {
                // A VM took it over from a restore that was interrupted.
                let old = &image.record.path;
                if app.ports.trash.locate(image, old).await == TrashedImageLocation::Original {
                    let uses = files.uses_of(old).await;
                    return Err(TrashRefusal::RestoredImageUsed { entry: target.id, uses }.into());
                }
                return Err(TrashError::NotFound { path: image.trash.clone() }.into());
            }
        }
    }
    if target.restoring.is_some() {
        app.ports.trash.describe(&target).await?;
    }
    for image in &target.images {
        if locate(app, &target, image).await != TrashedImageLocation::Trash {
            continue;
        }
        let path = original_path(app, &target, image);
        if let Err(error) = app.ports.trash.rename(&image.trash, &path).await {
            revert(app, target).await;
            return Err(error.into());
        }
        app.faults.reach(FaultPoint::TrashRestored);
    }
    Ok(target)
}

/// Moves restored images to the trash again, because the VM could not be defined.
pub(crate) async fn revert(app: &App, entry: TrashEntry) {
    let id = entry.id.clone();
    if let Err(error) = return_to_trash(app, entry).await {
        tracing::warn!(entry = %id, %error, "the restore of an entry of the trash is half done");
    }
}

/// Moves images of a removed VM that a restore moved back before its process died to the trash again.
///
/// One that a VM uses stays. The caller holds the lock of the trash.
pub(crate) async fn return_to_trash(app: &App, entry: TrashEntry) -> Result<TrashEntry, Error> {
    if app.ports.store.by_id(&entry.vm.id).await?.is_some() {
        return Ok(entry);
    }
    let mut moved = Vec::new();
    for image in &entry.images {
        if locate(app, &entry, image).await == TrashedImageLocation::Original {
            moved.push((original_path(app, &entry, image), image));
        }
    }
    if !moved.is_empty() {
        let used = UsedFiles::of_vms(app, None).await?;
        for (path, image) in moved {
            if used.uses_of(&path).await.is_empty() {
                app.ports.trash.rename(&path, &image.trash).await?;
                app.faults.reach(FaultPoint::TrashMoved);
            }
        }
    }
    if entry.restoring.is_none() {
        return Ok(entry);
    }
    let entry = TrashEntry { restoring: None, ..entry };
    app.ports.trash.describe(&entry).await?;
    Ok(entry)
}

/// Returns whether a restore of a removed VM was interrupted.
pub(crate) async fn is_half_restored(app: &App, entry: &TrashEntry) -> Result<bool, Error> {
    if app.ports.store.by_id(&entry.vm.id).await?.is_some() {
        return Ok(false);
    }
    for image in &entry.images {
        if locate(app, entry, image).await == TrashedImageLocation::Original {
            return Ok(true);
        }
    }
    Ok(entry.restoring.is_some())
}
