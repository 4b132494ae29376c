//! Of what a template would be made now.

use std::path::{Path, PathBuf};

use maqet_domain::checkpoint::{TemplateFile, TemplateInputs};
use maqet_domain::config::Node;

use crate::start::drives::Drive;
use crate::throw_away::definition::Original;
use crate::{App, Error};

/// Returns everything that a template of this definition depends on.
pub(crate) async fn inputs(app: &App, original: &Original) -> Result<TemplateInputs, Error> {
    let binary = app.ports.hypervisor.binary(&app.preflight().binary_name(&original.machine)).await?;
    let mut paths = vec![binary.path];
    for image in original.drives(app).iter().filter_map(Drive::image_use) {
        paths.extend(app.ports.image_tools.chain(&image).await.into_iter().map(|link| link.path));
    }
    paths.extend(original.variables.clone());
    let mut files = Vec::new();
    for path in paths {
        files.extend(file(app, &path).await);
    }
    Ok(TemplateInputs { definition: as_stored(&original.definition), qemu: binary.version, files })
}

/// Returns which file is at a path; `None` if it does not exist.
async fn file(app: &App, path: &Path) -> Option<TemplateFile> {
    let (path, file): (PathBuf, _) = app.ports.image_tools.identify(path).await?;
    let modified_at = app.ports.image_tools.modified(&path).await;
    Some(TemplateFile { path, file, modified_at })
}

/// Returns a definition as it is read from a record, where it can be written in another way.
fn as_stored(definition: &Node) -> Node {
    let stored = serde_json::to_value(definition).and_then(serde_json::from_value);
    stored.unwrap_or_else(|_| definition.clone())
}
