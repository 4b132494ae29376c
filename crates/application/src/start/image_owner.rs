//! Which VM the process that has an image open belongs to.

use maqet_domain::machine::Machine;
use maqet_domain::port::{ImageError, ImageUser};
use maqet_domain::vm::{VmEntry, VmName};

use super::disk_error::DiskError;
use crate::{App, Error};

/// Returns the error of an image of a VM; an orphan or another VM that has it open is reported as such.
pub(crate) async fn image_error(app: &App, entry: &VmEntry, source: ImageError) -> Error {
    let user = if let ImageError::InUse { by, .. } = &source { by.clone() } else { None };
    match image_owner(app, user.as_ref()).await {
        ImageOwner::Orphan(pid) => Error::DiskOfOrphan { vm: entry.name.clone(), pid, source: source.into() },
        ImageOwner::Vm(user) => {
            DiskError::InUse { vm: entry.name.clone(), user, backing: None, source: source.into() }.into()
        }
        ImageOwner::Other => source.into(),
    }
}

/// Returns that error of a start; says so if the image is the backing file of one.
pub(crate) async fn start_image_error(app: &App, entry: &VmEntry, machine: &Machine, source: ImageError) -> Error {
    let image = if let ImageError::InUse { path, .. } = &source { Some(path.clone()) } else { None };
    let mut error = image_error(app, entry, source).await;
    if let (Error::Disk(DiskError::InUse { backing, .. }), Some(image)) = (&mut error, image) {
        let wanted = app.ports.paths.resolve(&image).await;
        for drive in app.preflight().drives(&entry.name, machine) {
            if app.ports.paths.resolve(&drive.path).await == wanted {
                return error;
            }
        }
        *backing = Some(image);
    }
    error
}

/// Returns that error in place of one of an image of a VM.
pub(crate) async fn of_owner<T>(app: &App, entry: &VmEntry, result: Result<T, ImageError>) -> Result<T, Error> {
    match result {
        Ok(value) => Ok(value),
        Err(source) => Err(image_error(app, entry, source).await),
    }
}

/// What the process is that has an image open.
pub(crate) enum ImageOwner {
    Orphan(u32),
    Vm(VmName),
    Other,
}

/// Returns what the process is that has an image open.
pub(crate) async fn image_owner(app: &App, user: Option<&ImageUser>) -> ImageOwner {
    if let Some(pid) = app.orphans().among_users(user).await {
        return ImageOwner::Orphan(pid);
    }
    let entries = app.ports.store.list().await.unwrap_or_default();
    let runs = |entry: &&VmEntry| {
        let process = entry.open_run().and_then(|run| run.process.as_ref());
        process.is_some_and(|process| user.is_some_and(|user| user.pid == process.pid))
    };
    entries.iter().find(runs).map_or(ImageOwner::Other, |entry| ImageOwner::Vm(entry.name.clone()))
}
