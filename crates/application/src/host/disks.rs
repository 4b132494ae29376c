//! Whether the disks of a VM of another host are the same here.

use maqet_domain::port::{ImageError, PathKind, VmCopy};
use maqet_domain::storage::ImageAccess;

use super::error::HostError;
use crate::app::shown;
use crate::start::backing::EarlierImages;
use crate::start::disk_error::DiskError;
use crate::start::drives::Drive;
use crate::start::image_owner::image_error;
use crate::start::lost_images::ImagesLost;
use crate::storage::error::StorageError;
use crate::trash::used_files::UsedFiles;
use crate::{App, Error};

/// Refuses a VM whose disks are not on storage that this host has at the same paths.
///
/// Every image that was recorded must be here, with its size, and neither be open nor belong to a VM of this host.
pub(crate) async fn require_shared(app: &App, copy: &VmCopy, files: &UsedFiles<'_>) -> Result<(), Error> {
    let entry = &copy.vm.entry;
    let machine = app.machine(&copy.vm)?;
    let preflight = app.preflight();
    let mut missing = preflight.missing_images(entry, &machine).await;
    missing.extend(preflight.check_tpm(entry, &machine, &[]).await?);
    let images = preflight.lost_among(&entry.name, missing, &copy.storage).await;
    if !images.is_empty() {
        return Err(DiskError::from(ImagesLost { vm: entry.name.clone(), images }).into());
    }
    let drives = preflight.drives(&entry.name, &machine);
    let mut earlier = EarlierImages::default();
    for drive in &drives {
        let image = preflight.check_drive(drive, &earlier).await?;
        earlier.add(drive, image.as_ref());
        let record = copy.storage.iter().find(|record| record.path == drive.path);
        if let (Some(recorded), Some(found)) =
            (record.and_then(|record| record.size), image.and_then(|image| image.virtual_size))
            && recorded != found
        {
            let (vm, drive, path) = (entry.name.clone(), drive.storage.name.to_string(), drive.path.clone());
            return Err(StorageError::AnotherImage { vm, drive, path, recorded, found }.into());
        }
        require_free(app, copy, drive, files).await?;
    }
    match preflight.require_unlocked(&drives).await {
        Err(error @ ImageError::InUse { .. }) => Err(image_error(app, entry, error).await),
        unlocked => Ok(unlocked?),
    }
}

/// Refuses images of a VM of another `host` that are not the files which the VM used there when it was last started.
///
/// An image of the same size can be at the same path on each host, as where both were set up from one template. A file that is
/// not recorded, as by an older version, is accepted; a block device is not: its path is often that of another one elsewhere.
pub(crate) async fn require_same_files(app: &App, copy: &VmCopy, host: &str) -> Result<(), Error> {
    let entry = &copy.vm.entry;
    if entry.run.is_none() {
        return Ok(());
    }
    let machine = app.machine(&copy.vm)?;
    let preflight = app.preflight();
    let drives = preflight.drives(&entry.name, &machine);
    let used = app.ports.store.foreign_images(&entry.id).await?;
    for (drive, path) in preflight.written_images(&entry.name, &machine, &drives) {
        let shown = shown(&path);
        let recorded = used.iter().find(|image| image.drive == drive && image.path == shown);
        let found = app.ports.images.shared_id(&path).await;
        let of_vm = || (entry.name.clone(), drive.clone(), path.clone(), host.to_owned());
        match (recorded, &found) {
            (Some(recorded), Some(found)) if recorded.file.may_be(found) => {}
            (Some(_), Some(_)) => {
                let (vm, drive, path, host) = of_vm();
                return Err(HostError::DiskReplaced { vm, drive, path, host }.into());
            }
            (Some(_), None) | (None, _) => {
                if app.ports.paths.kind(&path).await == PathKind::BlockDevice {
                    let (vm, drive, path, host) = of_vm();
                    return Err(HostError::DeviceUnknown { vm, drive, path, host }.into());
                }
            }
        }
    }
    Ok(())
}

/// Refuses an image that a guest of this host writes, or that is a backing file here.
async fn require_free(app: &App, copy: &VmCopy, drive: &Drive<'_>, files: &UsedFiles<'_>) -> Result<(), Error> {
    let Some(image) = drive.image_use().filter(|image| image.access == ImageAccess::Write) else { return Ok(()) };
    if !app.ports.images.exists(&image.path).await {
        return Ok(());
    }
    let uses = files.uses_of(&image.path).await;
    if uses.is_empty() {
        return Ok(());
    }
    let (vm, drive) = (copy.vm.entry.name.clone(), drive.storage.name.to_string());
    Err(StorageError::UsedByOthers { vm, drive, uses }.into())
}
