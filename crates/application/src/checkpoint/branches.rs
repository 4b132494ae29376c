//! The layers of a VM: new ones, and those that are not needed any more. After a restore they are a tree, as checkpoints
//! and the drives have images on different branches.

use std::path::{Path, PathBuf};

use maqet_domain::change::{Change, ChangeSet, StorageRecord};
use maqet_domain::checkpoint::FrozenDisk;
use maqet_domain::port::ImageUse;
use maqet_domain::size::ByteSize;
use maqet_domain::storage::{Backing, ImageAccess, ImagePlan, LAYER_FORMAT};
use maqet_domain::vm::{DriveLayers, DroppedLayer, NewLayer, VmEntry, VmId, layers_of};

use super::place::Place;
use crate::trash::used_files::UsedFiles;
use crate::{App, Error};

/// Returns new layers for drives, each with the image that its definition names; their names are free.
pub(super) async fn new_layers(app: &App, entry: &VmEntry, drives: &[(&str, &Path)]) -> Vec<NewLayer> {
    let directory = app.folders.vm_storage(&entry.name);
    let mut number = DriveLayers::next_number(entry.layers.iter().flat_map(DriveLayers::images));
    loop {
        let layer = |(position, (drive, base)): (usize, &(&str, &Path))| NewLayer {
            drive: (*drive).to_owned(),
            base: (*base).to_owned(),
            path: directory.join(DriveLayers::file_name(drive, number)),
            number,
            position,
        };
        let layers: Vec<NewLayer> = drives.iter().enumerate().map(layer).collect();
        let mut is_free = true;
        for layer in &layers {
            is_free &= !app.ports.images.exists(&layer.path).await;
        }
        if is_free {
            return layers;
        }
        number += 1;
    }
}

/// Creates a layer above an image of this format.
pub(super) async fn create_layer(
    app: &App,
    path: &Path,
    (below, format): (&Path, &str),
    virtual_bytes: u64,
) -> Result<(), Error> {
    let backing = Some(Backing { file: below.to_owned(), format: Some(format.to_owned()) });
    let size = Some(ByteSize::from_bytes(virtual_bytes));
    let plan = ImagePlan { path: path.to_owned(), format: LAYER_FORMAT.to_owned(), size, backing };
    Ok(app.ports.images.create(&plan).await?)
}

/// Returns the change that records a layer as an image of its VM.
pub(super) fn layer_record(app: &App, entry: &VmEntry, layer: &NewLayer) -> Change {
    Change::StorageAdded(StorageRecord {
        path: layer.path.clone(),
        vm: Some(entry.id),
        drive: layer.drive.clone(),
        kind: LAYER_FORMAT.to_owned(),
        size: None,
        created_at: app.committer().now(),
    })
}

/// Removes an image that nothing was written to yet, such as a new layer, and what is left of an unfinished one.
pub(super) async fn remove_created(app: &App, path: &Path) -> Result<(), Error> {
    app.ports.image_tools.remove_incomplete(path).await;
    if let Some((path, file)) = app.ports.image_tools.identify(path).await {
        app.ports.image_tools.remove(&path, file).await?;
    }
    Ok(())
}

/// Returns what uses images, except for the drives of a VM and those of its checkpoints that are in the directories
/// `removed`; `None` if a checkpoint that stays cannot be read, as it may need any of them.
pub(super) async fn used_without<'a>(
    app: &'a App,
    entry: &VmEntry,
    removed: &[PathBuf],
) -> Result<Option<UsedFiles<'a>>, Error> {
    let mut place = Place::read(app, &entry.id).await?;
    if place.listing.unusable.iter().any(|(directory, _)| !removed.contains(directory)) {
        return Ok(None);
    }
    place.listing.checkpoints.retain(|found| !removed.contains(&found.directory));
    let mut used = UsedFiles::of_all_but_vm(app, &entry.id).await?;
    used.add_checkpoints(&entry.name, &place.listing.checkpoints).await;
    Ok(Some(used))
}

/// Returns the layers of a VM that nothing in `used` needs, and neither do drives with the layers `current`.
pub(super) async fn unneeded(
    app: &App,
    id: &VmId,
    current: &[DriveLayers],
    used: &UsedFiles<'_>,
) -> Result<Vec<DroppedLayer>, Error> {
    let Some(vm) = app.ports.store.by_id(id).await? else { return Ok(Vec::new()) };
    let Ok(machine) = app.machine(&vm) else { return Ok(Vec::new()) };
    let directory = app.folders.vm_storage(&vm.entry.name);
    let mut dropped = Vec::new();
    for record in app.ports.store.storage_of_vm(id).await? {
        let StorageRecord { path, drive, .. } = record;
        let is_layer = DriveLayers::number_of(&path)
            .is_some_and(|number| path == directory.join(DriveLayers::file_name(&drive, number)));
        let is_named = machine.storage.iter().any(|drive| drive.file.as_ref() == Some(&path));
        let is_current = current.iter().any(|layers| layers.images().any(|image| image == path));
        // The top layer of a drive that goes back is named by its machine until then.
        let is_old = vm.entry.layers.iter().any(|layers| layers.tops.contains(&path));
        if is_layer && !is_current && (is_old || !is_named) && used.uses_of(&path).await.is_empty() {
            let file = app.ports.image_tools.identify(&path).await.map(|(_, file)| file);
            dropped.push(DroppedLayer { drive, path, file });
        }
    }
    Ok(dropped)
}

/// Removes layers with all they have, and their records.
pub(super) async fn drop_layers(app: &App, dropped: &[DroppedLayer]) -> Result<(), Error> {
    if dropped.is_empty() {
        return Ok(());
    }
    let mut changes = ChangeSet::default();
    for layer in dropped {
        if let Some(file) = layer.file {
            app.ports.image_tools.remove(&layer.path, file).await?;
        }
        changes = changes.and(Change::StorageRemoved { path: layer.path.clone() });
    }
    Ok(app.committer().commit(changes).await?)
}

/// Returns the layers up to a frozen image: those that a drive has once it goes on from there; `None` if the image does not
/// build on that of the definition any more.
pub(super) async fn layers_up_to(app: &App, entry: &VmEntry, disk: &FrozenDisk) -> Option<DriveLayers> {
    let DriveLayers { drive, base, .. } = layers_of(&entry.layers, &disk.drive)?.clone();
    let base_file = app.ports.image_tools.identify(&base).await.map(|(_, file)| file);
    let image = ImageUse { path: disk.file.clone(), format: Some(disk.format.clone()), access: ImageAccess::Read };
    let mut tops = Vec::new();
    for link in app.ports.image_tools.chain(&image).await {
        if link.path == base || (link.file.is_some() && link.file == base_file) {
            tops.reverse();
            return Some(DriveLayers { drive, base, tops });
        }
        tops.push(link.path);
    }
    None
}
