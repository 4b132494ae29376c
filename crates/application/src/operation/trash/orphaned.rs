//! `storage orphaned`: finds images that no VM uses.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use maqet_domain::Timestamp;
use maqet_domain::change::StorageRecord;
use maqet_domain::port::ImageUse;
use maqet_domain::size::ByteSize;
use maqet_domain::storage::ImageAccess;
use serde::{Deserialize, Serialize};

use crate::app::operations::{Done, Effect, Operation};
use crate::app::shown;
use crate::trash::own_images::unused_images;
use crate::trash::used_files::UsedFiles;
use crate::{App, Error};

/// List images that no VM uses
///
/// Searches the storage directory and the images that maqet created for removed VMs. Adopt one with `storage attach`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::Args))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StorageOrphaned {}

impl StorageOrphaned {
    /// Lists images that no VM uses.
    pub fn new() -> Self {
        Self::default()
    }
}

/// An image that no VM uses.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OrphanedImage {
    /// Where it is.
    pub path: String,
    /// Its format, as far as its content tells.
    pub format: Option<String>,
    /// The size in a guest.
    pub virtual_bytes: Option<u64>,
    /// The space that it takes on the host.
    pub allocated_bytes: Option<u64>,
    /// The drive that it was created for, or `uefi-vars` for a UEFI variable store; omitted if maqet did not create it.
    pub drive: Option<String>,
    /// The name of the VM that it was created for, if it is in the storage directory of one.
    pub vm: Option<String>,
    /// When maqet created it.
    pub created_at: Option<Timestamp>,
    /// Other such images whose backing file it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<String>,
    /// Why it cannot be used, if so.
    pub problem: Option<String>,
}

impl Operation for StorageOrphaned {
    const NAME: &'static str = "storage.orphaned";
    const EFFECT: Effect = Effect::Reads;
    type Output = Vec<OrphanedImage>;

    async fn run(&self, app: &App) -> Result<Done<Vec<OrphanedImage>>, Error> {
        let used = UsedFiles::of_vms(app, None).await?;
        let unused = unused_images(app, &used).await?;
        let records = records(app).await?;
        let mut images = Vec::with_capacity(unused.len());
        let mut overlays: HashMap<PathBuf, Vec<String>> = HashMap::new();
        for path in unused {
            let image = ImageUse { path: path.clone(), format: None, access: ImageAccess::Read };
            let chain = app.ports.image_tools.chain(&image).await;
            for backing in chain.iter().skip(1) {
                let resolved = app.ports.paths.resolve(&backing.path).await;
                overlays.entry(resolved).or_default().push(shown(&path));
            }
            let link = chain.first();
            let record = records.get(&path);
            images.push(OrphanedImage {
                format: link.and_then(|link| link.format.clone()),
                virtual_bytes: link.and_then(|link| link.virtual_size).map(ByteSize::bytes),
                allocated_bytes: link.and_then(|link| link.actual_size).map(ByteSize::bytes),
                problem: chain.iter().find_map(|link| link.problem.as_ref()).map(ToString::to_string),
                drive: record.map(|record| record.drive.clone()),
                created_at: record.map(|record| record.created_at),
                vm: vm_of(app, &path),
                path: shown(&path),
                overlays: Vec::new(),
            });
        }
        for image in &mut images {
            let resolved = app.ports.paths.resolve(Path::new(&image.path)).await;
            image.overlays = overlays.remove(&resolved).unwrap_or_default();
        }
        Ok(Done::reading(images))
    }
}

/// Returns the records of images that maqet created, by their paths.
async fn records(app: &App) -> Result<HashMap<PathBuf, StorageRecord>, Error> {
    // An image that its VM does not use any more is still recorded for it.
    let created = app.ports.store.all_storage().await?.into_iter().filter(StorageRecord::is_created);
    Ok(created.map(|record| (record.path.clone(), record)).collect())
}

/// Returns the VM in whose storage directory an image is.
fn vm_of(app: &App, path: &Path) -> Option<String> {
    let directory = path.parent()?;
    (directory.parent()? == app.folders.storage).then(|| directory.file_name().map(|name| shown(Path::new(name))))?
}
