//! Recovery of backups and restores that were going on when maqet was killed.

use std::path::{Path, PathBuf};

use maqet_domain::backup::BITMAP_PREFIX;
use maqet_domain::port::HeldLock;
use maqet_domain::vm::{ReplacedImage, VmEntry};

use super::copier::Copier;
use super::create::server_paths;
use crate::app::recovered::Recovered;
use crate::vm::monitor::Monitored;
use crate::{App, Error};

/// Removes what an interrupted backup left in QEMU and on disk; one that was complete stays.
pub(crate) async fn recover_backup(
    app: &App,
    entry: &VmEntry,
    guard: &HeldLock,
    (unfinished, complete): (&Path, &Path),
    bitmap: &str,
    drives: &[(String, PathBuf)],
) -> Result<Recovered, Error> {
    app.ports.hypervisor.end_image_server(&server_paths(&app.folders, &entry.id)).await;
    // The bitmap of a complete backup stays: the next one builds on it.
    let is_complete = app.ports.images.exists(complete).await;
    let rolled_back = (!is_complete).then_some(bitmap);
    if let Some(vm) = Monitored::live(app, entry).await? {
        let mut copier = Copier::open(app, &vm.run.paths, None).await?;
        copier.end_left_over_jobs().await?;
        copier.clean_up(rolled_back).await?;
    } else if let Some(bitmap) = rolled_back {
        for (_, disk) in drives {
            remove_stored(app, disk, bitmap, guard).await?;
        }
    }
    app.ports.backups.remove(unfinished).await?;
    Ok(if is_complete { Recovered::finished(entry) } else { Recovered::rolled_back(entry) })
}

/// Removes a bitmap that was stored in a disk.
async fn remove_stored(app: &App, disk: &Path, bitmap: &str, guard: &HeldLock) -> Result<(), Error> {
    debug_assert!(bitmap.starts_with(BITMAP_PREFIX));
    if !app.ports.images.exists(disk).await {
        return Ok(());
    }
    if app.ports.backup_images.bitmaps(disk).await?.iter().any(|found| found.name == bitmap) {
        app.ports.backup_images.remove_bitmap(disk, bitmap, guard).await?;
    }
    Ok(())
}

/// Puts the old images back, or removes them if all the new ones are in place.
pub(crate) async fn recover_restore(
    app: &App,
    entry: &VmEntry,
    images: &[ReplacedImage],
    are_in_place: bool,
) -> Result<Recovered, Error> {
    if are_in_place {
        remove_replaced(app, images).await?;
        return Ok(Recovered::finished(entry));
    }
    put_back(app, images).await?;
    Ok(Recovered::rolled_back(entry))
}

/// Removes the old images.
pub(crate) async fn remove_replaced(app: &App, images: &[ReplacedImage]) -> Result<(), Error> {
    for image in images {
        if let (Some(kept), Some(old)) = (&image.kept, image.old) {
            app.ports.image_tools.remove(kept, old).await?;
        }
    }
    Ok(())
}

/// Puts the old images back in place of the new ones.
pub(crate) async fn put_back(app: &App, images: &[ReplacedImage]) -> Result<(), Error> {
    let tools = &*app.ports.image_tools;
    for image in images {
        let is_moved = match &image.kept {
            Some(kept) => tools.identify(kept).await.is_some_and(|(_, found)| Some(found) == image.old),
            None => false,
        };
        // One whose old image was not moved yet is not there. Without its old image, it is all there is.
        if let Some(new) = image.new.filter(|_| is_moved || image.kept.is_none()) {
            tools.remove(&image.path, new).await?;
        }
        if let Some(kept) = image.kept.as_ref().filter(|_| is_moved) {
            app.ports.backups.rename(kept, &image.path).await?;
        }
    }
    Ok(())
}
