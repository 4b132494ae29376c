//! The images that maqet created for a VM and that exist.

use std::collections::BTreeSet;
use std::path::PathBuf;

use maqet_domain::change::StorageRecord;
use maqet_domain::machine::Machine;
use maqet_domain::port::{ImageUse, PathKind};
use maqet_domain::storage::ImageAccess;
use maqet_domain::vm::Vm;

use super::error::TrashRefusal;
use super::used_files::UsedFiles;
use crate::start::firmware::VARIABLES_NAME;
use crate::start::image_owner::image_error;
use crate::start::tpm::{TPM_NAME, copy_path, copy_tags};
use crate::{App, Error};

/// An image of a VM.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OwnImage {
    pub(crate) record: StorageRecord,
    /// Whether maqet chose its path.
    pub(crate) is_default: bool,
}

/// Returns the images that maqet created for a VM and that exist.
pub(crate) async fn own_images(app: &App, vm: &Vm) -> Result<Vec<OwnImage>, Error> {
    let records = own_records(app, vm).await?;
    let machine = app.machine(vm).ok();
    let images = records.into_iter().map(|record| {
        let is_default = is_default(app, vm, machine.as_ref(), &record);
        OwnImage { record, is_default }
    });
    Ok(images.collect())
}

/// Returns the records of the images that maqet created for a VM and that exist, its UEFI variable store and the state of
/// its TPM included.
pub(crate) async fn own_records(app: &App, vm: &Vm) -> Result<Vec<StorageRecord>, Error> {
    let mut records = app.ports.store.storage_of_vm(&vm.entry.id).await?;
    records.retain(StorageRecord::is_created);
    // One that an older maqet created has no record until the next start.
    let variables = (app.preflight().uefi_variables(&vm.entry.name), VARIABLES_NAME);
    // One of a start that was killed has none, either.
    let tpm = app.preflight().tpm_state(&vm.entry.name);
    // Copies have none, as the snapshots in an image.
    let copies = copy_tags(&*app.ports.images, &tpm).await?;
    let copies = copies.iter().map(|tag| copy_path(&tpm, tag)).chain([tpm.clone()]).map(|path| (path, TPM_NAME));
    for (path, name) in copies.chain([variables]) {
        if records.iter().any(|record| record.path == path) {
            continue;
        }
        records.push(StorageRecord {
            path,
            vm: Some(vm.entry.id),
            drive: name.to_owned(),
            kind: name.to_owned(),
            size: None,
            created_at: app.ports.clock.now(),
        });
    }
    let mut existing = Vec::new();
    for record in records {
        if app.ports.images.exists(&record.path).await {
            existing.push(record);
        }
    }
    Ok(existing)
}

/// Returns whether the path of an image follows the name of its VM: no drive names it.
fn is_default(app: &App, vm: &Vm, machine: Option<&Machine>, record: &StorageRecord) -> bool {
    let is_named = |machine: &Machine| {
        machine.storage.iter().any(|storage| storage.file.as_deref() == Some(record.path.as_path()))
    };
    record.path.parent() == Some(app.folders.vm_storage(&vm.entry.name).as_path()) && !machine.is_some_and(is_named)
}

/// Refuses images that others use: as a drive, or as a backing file.
pub(crate) async fn refuse_used(app: &App, vm: &Vm, images: &[OwnImage]) -> Result<(), Error> {
    let mut files = UsedFiles::of_vms(app, Some(&vm.entry.id)).await?;
    let unused = unused_images(app, &files).await?;
    let others = unused.into_iter().filter(|path| images.iter().all(|image| image.record.path != *path));
    files.add_images(&others.collect::<Vec<_>>()).await;
    let mut uses = Vec::new();
    for image in images {
        uses.extend(files.uses_of(&image.record.path).await);
    }
    if uses.is_empty() {
        return Ok(());
    }
    Err(TrashRefusal::Used { vm: vm.entry.name.clone(), uses }.into())
}

/// Returns the images in the storage directory, and those recorded for removed VMs, that no VM uses.
pub(crate) async fn unused_images(app: &App, used: &UsedFiles<'_>) -> Result<Vec<PathBuf>, Error> {
    let mut paths: BTreeSet<PathBuf> = app.ports.paths.files(&app.folders.storage).await.into_iter().collect();
    for record in app.ports.store.storage_without_vm().await? {
        if app.ports.paths.kind(&record.path).await == PathKind::File {
            paths.insert(record.path);
        }
    }
    let mut unused = Vec::new();
    for path in paths {
        if used.uses_of(&path).await.is_empty() {
            unused.push(path);
        }
    }
    Ok(unused)
}

/// Refuses images that a process has open; it is named, and its VM.
pub(crate) async fn require_unlocked(app: &App, vm: &Vm, images: &[OwnImage]) -> Result<(), Error> {
    for image in images {
        // Of no format, so that its backing files may be in use.
        for access in [ImageAccess::Write, ImageAccess::Read] {
            let image = ImageUse { path: image.record.path.clone(), format: Some("raw".to_owned()), access };
            if let Err(error) = app.ports.images.require_unlocked(&image).await {
                return Err(image_error(app, &vm.entry, error).await);
            }
        }
    }
    Ok(())
}
