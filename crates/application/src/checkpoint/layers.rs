//! What layers keep from being changed: the images below them, and which image a drive has.

use maqet_domain::config::Node;
use maqet_domain::machine::Machine;
use maqet_domain::vm::{DriveLayers, Vm, VmEntry, layers_of};

use super::error::CheckpointError;
use super::place::Place;
use crate::config::check_machine;
use crate::{App, Error};

/// Refuses to rewrite or replace the image of a drive, or of any drive, while it has layers.
pub(crate) async fn refuse_layers(app: &App, entry: &VmEntry, drive: Option<&str>) -> Result<(), Error> {
    let found = match drive {
        Some(drive) => layers_of(&entry.layers, drive),
        None => entry.layers.first(),
    };
    match found {
        Some(layers) => Err(layered(app, entry, layers).await?.into()),
        None => Ok(()),
    }
}

/// Refuses a definition in which a drive with layers is gone, or has another image than the one below its layers.
pub(crate) async fn require_bases(app: &App, vm: &Vm, definition: &Node) -> Result<(), Error> {
    if vm.entry.layers.is_empty() {
        return Ok(());
    }
    let (old, new) = (check_machine(app, vm.definition.clone())?, check_machine(app, definition.clone())?);
    for layers in &vm.entry.layers {
        if !is_kept(app, vm, layers, (&old, &new)) {
            return Err(layered(app, &vm.entry, layers).await?.into());
        }
    }
    Ok(())
}

fn is_kept(app: &App, vm: &Vm, layers: &DriveLayers, (old, new): (&Machine, &Machine)) -> bool {
    let Some(drive) = new.drive(&layers.drive) else { return false };
    let format = |machine: &Machine| machine.drive(&layers.drive)?.driver.image_format();
    drive.path(&app.folders.vm_storage(&vm.entry.name)) == layers.base
        && format(old) == format(new)
        && !drive.keeps_image()
}

async fn layered(app: &App, entry: &VmEntry, layers: &DriveLayers) -> Result<CheckpointError, Error> {
    let place = Place::read(app, &entry.id).await?;
    let of_drive = place.listing.checkpoints.iter().map(|found| &found.manifest);
    let of_drive = of_drive.filter(|manifest| manifest.disks.iter().any(|disk| disk.drive == layers.drive));
    let checkpoints = of_drive.map(|manifest| manifest.name.clone()).collect();
    Ok(CheckpointError::DriveLayered { vm: entry.name.clone(), drive: layers.drive.clone(), checkpoints })
}

/// Refuses to remove a VM that has checkpoints or layers.
pub(crate) async fn refuse_checkpoints(app: &App, entry: &VmEntry) -> Result<(), Error> {
    let place = Place::read(app, &entry.id).await?;
    let is_clean = place.listing.checkpoints.is_empty() && place.listing.unusable.is_empty();
    if is_clean && entry.layers.is_empty() {
        return Ok(());
    }
    Err(CheckpointError::VmHasCheckpoints { vm: entry.name.clone(), checkpoints: place.names() }.into())
}
