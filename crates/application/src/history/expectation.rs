//! Compares what a change left with what is there.

use maqet_domain::history::{CopySource, ExpectedImage, ExpectedSnapshot, Unexpected};
use maqet_domain::port::{ImageFile, ImageUse, StoreError};
use maqet_domain::revert::Revert;
use maqet_domain::storage::ImageAccess;
use maqet_domain::trash::TrashId;
use maqet_domain::vm::Vm;

use super::error::HistoryError;
use crate::snapshot::tpm_copy;
use crate::{App, Error};

/// Refuses to revert a change that is reverted already, or if something is otherwise than it left it; the caller holds the
/// lock of the VM, and has changed nothing yet.
pub(crate) async fn require_expected(app: &App, revert: Option<&Revert>, vm: Option<&Vm>) -> Result<(), Error> {
    let Some(revert) = revert else { return Ok(()) };
    match find_problem(app, revert, vm).await? {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

/// Returns why a change is not reverted; `vm` is the VM, if it was read.
pub(crate) async fn find_problem(app: &App, revert: &Revert, vm: Option<&Vm>) -> Result<Option<Error>, Error> {
    // The commit refuses it, too, but only after the work is done.
    if let Some(entry) = revert.entry
        && app.ports.store.is_reverted(entry.sequence).await?
    {
        return Ok(Some(StoreError::Reverted { sequence: entry.sequence }.into()));
    }
    let unexpected = find_unexpected(app, revert, vm).await?;
    Ok(unexpected.map(|unexpected| HistoryError::from(unexpected).into()))
}

/// Returns what is otherwise than expected.
async fn find_unexpected(app: &App, revert: &Revert, vm: Option<&Vm>) -> Result<Option<Unexpected>, Error> {
    let expected = &revert.expected;
    let read = match (vm, expected.vm) {
        (None, Some(id)) => match app.ports.store.by_id(&id).await? {
            None => return Ok(Some(Unexpected::Removed { id })),
            read => read,
        },
        _ => None,
    };
    if let Some(vm) = vm.or(read.as_ref()) {
        if expected.stopped && app.observer().observe_process(&vm.entry).await.status.is_live() {
            return Ok(Some(Unexpected::Running { vm: vm.entry.name.clone() }));
        }
        if let Err(unexpected) = expected.check_vm(vm) {
            return Ok(Some(unexpected));
        }
    }
    if let Some(name) = &expected.free_name
        && app.ports.store.by_name(name).await?.is_some()
    {
        return Ok(Some(Unexpected::NameTaken { name: name.clone() }));
    }
    if let Some(entry) = &expected.trash {
        let found = match TrashId::parse(entry) {
            Ok(id) => app.ports.trash.find(&id).await,
            Err(_) => None,
        };
        if found.is_none() {
            return Ok(Some(Unexpected::TrashEntryGone { entry: entry.clone() }));
        }
    }
    for image in &expected.images {
        if let Some(unexpected) = of_image(app, image).await? {
            return Ok(Some(unexpected));
        }
    }
    for path in &expected.free_paths {
        if app.ports.images.exists(path).await {
            return Ok(Some(Unexpected::PathTaken { path: path.clone() }));
        }
    }
    for snapshot in &expected.snapshots {
        if let Some(unexpected) = of_snapshot(app, snapshot).await? {
            return Ok(Some(unexpected));
        }
    }
    for snapshot in &revert.created {
        // Some may be removed, but none is another one.
        match of_snapshot(app, snapshot).await? {
            None | Some(Unexpected::SnapshotGone { .. } | Unexpected::ImageGone { .. }) => {}
            replaced => return Ok(replaced),
        }
    }
    Ok(None)
}

async fn of_image(app: &App, image: &ExpectedImage) -> Result<Option<Unexpected>, Error> {
    let tools = &app.ports.image_tools;
    let path = || image.path.clone();
    let Some((_, file)) = tools.identify(&image.path).await else {
        return Ok(Some(Unexpected::ImageGone { path: path() }));
    };
    if let Some(expected) = image.size {
        let used = ImageUse { path: path(), format: image.format.clone(), access: ImageAccess::Read };
        match tools.chain(&used).await.into_iter().next().and_then(|link| link.virtual_size) {
            // Killed before it was recorded; what it cut off is gone.
            Some(found) if image.becomes == Some(found) => return Ok(None),
            Some(found) if found != expected => {
                return Ok(Some(Unexpected::ImageResized { path: path(), expected, found }));
            }
            _ => {}
        }
    }
    let is_other = image.file.is_some_and(|expected| expected != file);
    let is_written = image.modified.is_some() && tools.modified(&image.path).await != image.modified;
    if !is_other && !is_written || is_harmless(app, image, is_other).await? {
        return Ok(None);
    }
    let path = path();
    Ok(Some(if is_other { Unexpected::ImageReplaced { path } } else { Unexpected::ImageChanged { path } }))
}

/// Returns whether nothing is lost, although an image was written or replaced since.
async fn is_harmless(app: &App, image: &ExpectedImage, is_other: bool) -> Result<bool, Error> {
    let tools = &app.ports.image_tools;
    let Some(format) = image.format.clone() else { return Ok(false) };
    let file = ImageFile { path: image.path.clone(), format };
    if let Some(CopySource { path, format }) = image.copied_from.clone() {
        return Ok(tools.has_same_content(&file, &ImageFile { path, format }).await?);
    }
    match image.becomes {
        Some(size) if !is_other => Ok(!tools.has_data(&file, size).await?),
        _ => Ok(false),
    }
}

async fn of_snapshot(app: &App, expected: &ExpectedSnapshot) -> Result<Option<Unexpected>, Error> {
    let tag = &expected.tag;
    let gone = || Unexpected::SnapshotGone { drive: tag.drive.clone(), tag: tag.tag.clone() };
    if tpm_copy::is_of_tpm(tag) {
        return Ok((!tpm_copy::is_present(app, tag).await).then(gone));
    }
    if !app.ports.images.exists(&tag.path).await {
        return Ok(Some(Unexpected::ImageGone { path: tag.path.clone() }));
    }
    let table = app.ports.images.snapshots(&tag.path).await?;
    Ok(expected.check(&table).err())
}
