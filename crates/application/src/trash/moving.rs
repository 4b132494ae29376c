//! Moves the images of a VM to the trash, all of them or none.

use std::path::{Path, PathBuf};

use maqet_domain::command_line::TPM_LOCK_FILE;
use maqet_domain::port::TrashError;
use maqet_domain::trash::{TrashEntry, TrashId, TrashedImage, TrashedImageLocation, TrashedVm};
use maqet_domain::vm::{PendingWork, Vm, VmEntry};
use maqet_fault_points::FaultPoint;

use super::entries::{locate, lock_trash};
use super::error::TrashRefusal;
use super::own_images::OwnImage;
use super::restore::{self, original_path};
use crate::app::operations::MovedStorage;
use crate::app::recovered::Recovered;
use crate::{App, Error};

/// Images that were moved, to be moved back if the removal of their VM cannot be written.
pub(crate) struct Trashed {
    pub(crate) entry: TrashEntry,
    /// The VM as it was last written.
    pub(crate) vm: VmEntry,
}

/// Moves the images of a VM that is locked to the trash; returns what was moved, and what was not, because it is no
/// regular file.
///
/// The caller also holds the lock of the trash and those of the images, and has its next commit remove the VM.
pub(crate) async fn move_to_trash(
    app: &App,
    vm: &Vm,
    images: Vec<OwnImage>,
    operation: &'static str,
) -> Result<(Option<Trashed>, Vec<PathBuf>), Error> {
    let id = TrashId::new(&app.ports.ids.vm_id());
    let paths: Vec<PathBuf> = images.iter().map(|image| image.record.path.clone()).collect();
    let places = app.ports.trash.places(&id, &paths).await?;
    let (mut moved, mut kept) = (Vec::new(), Vec::new());
    for (image, place) in images.into_iter().zip(places) {
        let OwnImage { record, is_default } = image;
        match place {
            Some(place) => moved.push(TrashedImage {
                record,
                is_default,
                trash: place.trash,
                inode: place.inode,
                allocated_bytes: place.allocated_bytes,
            }),
            None => kept.push(record.path),
        }
    }
    if moved.is_empty() {
        return Ok((None, kept));
    }
    let mut storage = app.ports.store.storage_of_vm(&vm.entry.id).await?;
    storage.retain(|record| !moved.iter().any(|image| image.record.path == record.path));
    let entry = TrashEntry {
        id,
        removed_at: app.ports.clock.now(),
        vm: TrashedVm::from(vm),
        images: moved,
        storage,
        snapshots: app.ports.store.snapshots_of_vm(&vm.entry.id).await?,
        restoring: None,
    };
    let work = PendingWork::Trash { entry: entry.id.to_string() };
    let marked = app.committer().begin_work(&vm.entry, operation, work, Vec::new()).await?;
    app.faults.reach(FaultPoint::Marked(operation));
    let trashed = Trashed { entry, vm: marked };
    match trashed.carry_out(app).await {
        Ok(()) => Ok((Some(trashed), kept)),
        Err(error) => {
            trashed.revert(app).await;
            Err(error.into())
        }
    }
}

impl Trashed {
    async fn carry_out(&self, app: &App) -> Result<(), TrashError> {
        app.ports.trash.describe(&self.entry).await?;
        app.faults.reach(FaultPoint::TrashDescribed);
        for image in &self.entry.images {
            app.ports.trash.rename(&image.record.path, &image.trash).await?;
            app.faults.reach(FaultPoint::TrashMoved);
        }
        Ok(())
    }

    /// Moves the images back; what fails here is done by the next command for the VM.
    pub(crate) async fn revert(&self, app: &App) {
        let reverted = match move_back(app, &self.entry.id).await {
            Ok(()) => app.committer().end_work(&self.vm, Vec::new()).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = reverted {
            tracing::warn!(vm = %self.vm.name, %error, "the move of its images to the trash is still pending");
        }
    }
}

impl MovedStorage {
    /// Moves the images back, because what was to be written was not.
    pub(crate) async fn revert(self, app: &App) {
        match self {
            Self::Trashed(trashed) => trashed.revert(app).await,
            Self::Restored(entry) => restore::revert(app, *entry).await,
        }
    }

    /// Removes what the images left behind, once all is written.
    pub(crate) async fn conclude(self, app: &App) {
        match self {
            Self::Trashed(trashed) => {
                let own = |folder: &&Path| folder.parent() == Some(app.folders.storage.as_path());
                let folders = trashed.entry.images.iter().filter_map(|image| image.record.path.parent());
                for folder in folders.filter(own) {
                    app.ports.trash.prune(folder, TPM_LOCK_FILE).await;
                }
            }
            Self::Restored(entry) => {
                if let Err(error) = app.ports.trash.close(&entry).await {
                    tracing::warn!(entry = %entry.id, %error, "could not remove an empty entry of the trash");
                }
            }
        }
    }
}

/// Moves the images of a VM back whose removal was interrupted.
pub(crate) async fn recover(app: &App, vm: &VmEntry, entry: &str) -> Result<Recovered, Error> {
    let id = TrashId::parse(entry).map_err(TrashRefusal::from)?;
    let _guard = lock_trash(app, "rm").await?;
    move_back(app, &id).await?;
    Ok(Recovered::rolled_back(vm))
}

/// Moves the images of an entry back to where they were, and removes the entry.
///
/// An image whose place is taken, or whose volume is not mounted, stays in the entry.
pub(crate) async fn move_back(app: &App, id: &TrashId) -> Result<(), Error> {
    let Some(entry) = app.ports.trash.find(id).await else { return Ok(()) };
    let mut left = Vec::new();
    for image in &entry.images {
        match locate(app, &entry, image).await {
            TrashedImageLocation::Original => {}
            TrashedImageLocation::Missing => left.push(image.clone()),
            TrashedImageLocation::Trash => {
                match app.ports.trash.rename(&image.trash, &original_path(app, &entry, image)).await {
                    Ok(()) => app.faults.reach(FaultPoint::TrashRestored),
                    Err(TrashError::Exists { .. }) => left.push(image.clone()),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    if left.is_empty() {
        app.ports.trash.close(&entry).await?;
    } else {
        app.ports.trash.describe(&TrashEntry { images: left, ..entry }).await?;
    }
    Ok(())
}
