//! Entries of the trash: finding one, and describing it.

use maqet_domain::Timestamp;
use maqet_domain::port::Guard;
use maqet_domain::text::similar;
use maqet_domain::trash::{TrashEntry, TrashId, TrashedImage, TrashedImageLocation};
use maqet_domain::vm::{PendingWork, VmEntry, VmName};
use serde::Serialize;

use super::error::TrashRefusal;
use super::restore::original_path;
use crate::app::shown;
use crate::{App, Error};

/// An entry of the trash, as scripts see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TrashInfo {
    /// Its ID.
    pub entry: String,
    /// The ID of the VM.
    pub id: String,
    /// The name of the VM.
    pub name: String,
    /// When the VM was removed.
    pub removed_at: Timestamp,
    /// The space that its images take on the host.
    pub allocated_bytes: u64,
    /// Its images.
    pub images: Vec<TrashedImageInfo>,
}

/// An image in the trash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TrashedImageInfo {
    /// Its drive, or `uefi-vars` for the UEFI variable store.
    pub drive: String,
    /// Where it was.
    pub path: String,
    /// Where it is.
    pub trash: String,
    /// The space that it takes on the host.
    pub allocated_bytes: u64,
    /// Whether it is there: its volume may not be mounted.
    pub exists: bool,
}

impl TrashInfo {
    /// Describes an entry.
    pub(crate) async fn new(app: &App, entry: &TrashEntry) -> Self {
        let mut images = Vec::with_capacity(entry.images.len());
        for image in &entry.images {
            images.push(TrashedImageInfo {
                drive: image.record.drive.clone(),
                path: shown(&image.record.path),
                trash: shown(&image.trash),
                allocated_bytes: image.allocated_bytes,
                exists: locate(app, entry, image).await == TrashedImageLocation::Trash,
            });
        }
        Self {
            entry: entry.id.to_string(),
            id: entry.vm.id.to_string(),
            name: entry.vm.name.to_string(),
            removed_at: entry.removed_at,
            allocated_bytes: entry.allocated_bytes(),
            images,
        }
    }
}

/// Locks the trash: one operation at a time moves images there, back, or deletes them.
pub(crate) async fn lock_trash(app: &App, operation: &'static str) -> Result<Box<dyn Guard>, Error> {
    let timeout = app.timeouts().lock;
    Ok(app.ports.locks.lock(&maqet_domain::port::LockName::Trash, operation, timeout).await?)
}

/// Returns the entries of VMs that are removed, oldest first.
///
/// An entry whose images are being moved is left out, as is one whose images were all moved back.
pub(crate) async fn complete_entries(app: &App) -> Result<Vec<TrashEntry>, Error> {
    let mut complete = Vec::new();
    for entry in app.ports.trash.entries().await? {
        let vm = app.ports.store.by_id(&entry.vm.id).await?;
        let is_complete = match vm {
            None => true,
            Some(vm) if is_moving(&vm.entry, &entry.id) => false,
            Some(_) => holds_images(app, &entry).await,
        };
        if is_complete {
            complete.push(entry);
        }
    }
    Ok(complete)
}

/// Returns whether a VM records that its images are being moved to this entry.
pub(crate) fn is_moving(vm: &VmEntry, entry: &TrashId) -> bool {
    let work = vm.pending.as_ref().map(|pending| &pending.work);
    matches!(work, Some(PendingWork::Trash { entry: moving }) if moving == entry.as_str())
}

/// Returns whether at least one image of an entry is in the trash.
pub(crate) async fn holds_images(app: &App, entry: &TrashEntry) -> bool {
    for image in &entry.images {
        if locate(app, entry, image).await == TrashedImageLocation::Trash {
            return true;
        }
    }
    false
}

/// Returns where an image of an entry is.
pub(crate) async fn locate(app: &App, entry: &TrashEntry, image: &TrashedImage) -> TrashedImageLocation {
    app.ports.trash.locate(image, &original_path(app, entry, image)).await
}

/// Finds an entry by its ID, or by the name of its VM.
pub(crate) async fn find_entry(app: &App, name: &str) -> Result<TrashEntry, Error> {
    if let Ok(id) = TrashId::parse(name)
        && let Some(entry) = app.ports.trash.find(&id).await
    {
        return Ok(entry);
    }
    let entries = complete_entries(app).await?;
    let of_vm = |entry: &&TrashEntry| entry.vm.name.as_str() == name || entry.vm.id.to_string() == name;
    let mut found: Vec<TrashEntry> = entries.iter().filter(of_vm).cloned().collect();
    match (found.pop(), found.as_slice()) {
        (Some(entry), []) => Ok(entry),
        (Some(last), others) => {
            let entries = others.iter().map(|entry| entry.id.clone()).chain([last.id]).collect();
            Err(TrashRefusal::EntryAmbiguous { name: name.to_owned(), entries }.into())
        }
        (None, _) => {
            let names = entries.iter().map(|entry| &entry.vm.name);
            let known = similar(name, names.map(VmName::as_str));
            Err(TrashRefusal::EntryNotFound { name: name.to_owned(), known }.into())
        }
    }
}
