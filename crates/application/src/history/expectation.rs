//! Compares what a change left with what is there.

use maqet_domain::history::{Expected, ExpectedImage, Unexpected};
use maqet_domain::port::ImageUse;
use maqet_domain::revert::Revert;
use maqet_domain::snapshot::tag::has_tag;
use maqet_domain::storage::ImageAccess;
use maqet_domain::trash::TrashId;
use maqet_domain::vm::{ImageTag, Vm};

use super::error::HistoryError;
use crate::snapshot::tpm_copy;
use crate::{App, Error};

/// Refuses to revert a change if something is otherwise than it left it; the caller holds the lock of the VM.
pub(crate) async fn require_expected(app: &App, revert: Option<&Revert>, vm: Option<&Vm>) -> Result<(), Error> {
    let Some(revert) = revert else { return Ok(()) };
    match find_unexpected(app, &revert.expected, vm).await? {
        Some(unexpected) => Err(HistoryError::from(unexpected).into()),
        None => Ok(()),
    }
}

/// Returns what is otherwise than expected; `vm` is the VM, if it was read.
pub(crate) async fn find_unexpected(
    app: &App,
    expected: &Expected,
    vm: Option<&Vm>,
) -> Result<Option<Unexpected>, Error> {
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
        if let Some(unexpected) = of_image(app, image).await {
            return Ok(Some(unexpected));
        }
    }
    for path in &expected.free_paths {
        if app.ports.images.exists(path).await {
            return Ok(Some(Unexpected::PathTaken { path: path.clone() }));
        }
    }
    for tag in &expected.snapshots {
        if let Some(unexpected) = of_snapshot(app, tag).await? {
            return Ok(Some(unexpected));
        }
    }
    Ok(None)
}

async fn of_image(app: &App, image: &ExpectedImage) -> Option<Unexpected> {
    let path = || image.path.clone();
    let Some((_, file)) = app.ports.image_tools.identify(&image.path).await else {
        return Some(Unexpected::ImageGone { path: path() });
    };
    if image.file.is_some_and(|expected| expected != file) {
        return Some(Unexpected::ImageReplaced { path: path() });
    }
    let expected = image.size?;
    let used = ImageUse { path: path(), format: image.format.clone(), access: ImageAccess::Read };
    let found = app.ports.image_tools.chain(&used).await.into_iter().next()?.virtual_size?;
    (found != expected).then(|| Unexpected::ImageResized { path: path(), expected, found })
}

async fn of_snapshot(app: &App, tag: &ImageTag) -> Result<Option<Unexpected>, Error> {
    let gone = || Unexpected::SnapshotGone { drive: tag.drive.clone(), tag: tag.tag.clone() };
    if tpm_copy::is_of_tpm(tag) {
        return Ok((!tpm_copy::is_present(app, tag).await).then(gone));
    }
    if !app.ports.images.exists(&tag.path).await {
        return Ok(Some(Unexpected::ImageGone { path: tag.path.clone() }));
    }
    let table = app.ports.images.snapshots(&tag.path).await?;
    Ok((!has_tag(&table, &tag.tag)).then(gone))
}
