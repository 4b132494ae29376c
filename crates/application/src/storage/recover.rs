//! Recovers conversions and other rewrites of images whose process died.

use std::path::Path;

use maqet_domain::storage::FileId;
use maqet_domain::vm::VmEntry;

use crate::app::recovered::Recovered;
use crate::{App, Error};

/// Removes the new image of a conversion: the definition does not have it.
pub(crate) async fn roll_back_convert(
    app: &App,
    entry: &VmEntry,
    path: &Path,
    file: Option<FileId>,
) -> Result<Recovered, Error> {
    app.ports.image_tools.remove_incomplete(path).await;
    if let Some(file) = file {
        app.ports.image_tools.remove(path, file).await?;
    }
    Ok(Recovered::rolled_back(entry))
}

/// Removes what was written beside an image that is as it was, or was replaced.
pub(crate) async fn end_rewrite(app: &App, entry: &VmEntry, path: &Path) -> Recovered {
    app.ports.image_tools.remove_incomplete(path).await;
    Recovered::rolled_back(entry)
}
