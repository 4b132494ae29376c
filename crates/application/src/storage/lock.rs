//! Locks of disk images: one operation at a time on an image, whichever VM it belongs to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use maqet_domain::port::{Guard, LockName};

use crate::{App, Error};

/// Locks images for an operation, each once, after the lock of the VM.
///
/// All are locked in the order of their paths, so that two operations on the same images do not wait for each other. An
/// image that does not exist is locked by its path.
pub(crate) async fn lock_images(
    app: &App,
    images: impl IntoIterator<Item = &Path>,
    operation: &'static str,
) -> Result<Vec<Box<dyn Guard>>, Error> {
    let mut paths = BTreeSet::<PathBuf>::new();
    for image in images {
        let found = app.ports.image_tools.identify(image).await;
        paths.insert(found.map_or_else(|| image.to_owned(), |(path, _)| path));
    }
    let mut guards = Vec::with_capacity(paths.len());
    for path in paths {
        guards.push(app.ports.locks.lock(&LockName::Image(path), operation, app.timeouts().lock).await?);
    }
    Ok(guards)
}
