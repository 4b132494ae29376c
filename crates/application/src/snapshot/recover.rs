//! Recovery of snapshots that were being created, loaded or removed when maqet was killed.
//!
//! Each step is one `qemu-img` that is complete or did not happen, and which steps were done is read from the images.
//! An image that is gone meanwhile has nothing to recover.

use maqet_domain::change::Change;
use maqet_domain::port::HeldLock;
use maqet_domain::snapshot::tag::has_tag;
use maqet_domain::vm::{ImageTag, VmEntry};

use crate::app::recovered::Recovered;
use crate::backup::changes::forget_changes;
use crate::snapshot::bitmaps::refuse_foreign;
use crate::snapshot::tpm_copy;
use crate::{App, Error};

/// Removes the snapshots of a set that is not complete.
pub(crate) async fn roll_back_create(
    app: &App,
    entry: &VmEntry,
    guard: &HeldLock,
    created: &[ImageTag],
) -> Result<Recovered, Error> {
    remove_present(app, guard, created).await?;
    Ok(Recovered::rolled_back(entry))
}

/// Removes the remaining snapshots of a set that was being removed.
pub(crate) async fn finish_remove(
    app: &App,
    entry: &VmEntry,
    guard: &HeldLock,
    removed: &[ImageTag],
) -> Result<Recovered, Error> {
    remove_present(app, guard, removed).await?;
    Ok(Recovered { changes: record_removals(entry, removed), ..Recovered::finished(entry) })
}

/// Returns the images to their states before a load, if it began: all `safety` snapshots exist by then.
pub(crate) async fn recover_load(
    app: &App,
    entry: &VmEntry,
    guard: &HeldLock,
    safety: &[ImageTag],
) -> Result<Recovered, Error> {
    if are_all_present(app, safety).await? {
        load_present(app, guard, safety).await?;
    }
    remove_present(app, guard, safety).await?;
    Ok(Recovered::rolled_back(entry))
}

/// Removes those of the snapshots that exist.
pub(crate) async fn remove_present(app: &App, guard: &HeldLock, tags: &[ImageTag]) -> Result<(), Error> {
    for tag in tags {
        if tpm_copy::is_of_tpm(tag) {
            tpm_copy::remove(app, tag).await?;
        } else if is_present(app, tag).await? == Some(true) {
            app.ports.images.remove_snapshot(&tag.path, &tag.tag, guard).await?;
        }
    }
    Ok(())
}

/// Returns the changes that remove the records of snapshots.
pub(crate) fn record_removals(entry: &VmEntry, tags: &[ImageTag]) -> Vec<Change> {
    let removal =
        |tag: &ImageTag| Change::SnapshotRemoved { vm: entry.id, drive: tag.drive.clone(), tag: tag.tag.clone() };
    tags.iter().map(removal).collect()
}

/// Loads the snapshots of the images that exist; loading one twice is harmless.
async fn load_present(app: &App, guard: &HeldLock, tags: &[ImageTag]) -> Result<(), Error> {
    for tag in tags {
        if tpm_copy::is_of_tpm(tag) {
            tpm_copy::load(app, tag).await?;
        } else if app.ports.images.exists(&tag.path).await {
            refuse_foreign(app, &tag.path).await?;
            forget_changes(app, &tag.path, guard).await?;
            app.ports.images.load_snapshot(&tag.path, &tag.tag, guard).await?;
        }
    }
    Ok(())
}

async fn are_all_present(app: &App, tags: &[ImageTag]) -> Result<bool, Error> {
    for tag in tags {
        if is_present(app, tag).await? == Some(false) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns whether an image has a snapshot; `None` if there is no image.
async fn is_present(app: &App, tag: &ImageTag) -> Result<Option<bool>, Error> {
    if tpm_copy::is_of_tpm(tag) {
        return Ok(Some(tpm_copy::is_present(app, tag).await));
    }
    if !app.ports.images.exists(&tag.path).await {
        return Ok(None);
    }
    let snapshots = app.ports.images.snapshots(&tag.path).await?;
    Ok(Some(has_tag(&snapshots, &tag.tag)))
}
