//! Which VMs use an image: as a drive, or as a backing file of a drive.

use maqet_domain::storage::FileId;
use maqet_domain::vm::{VmEntry, VmId, VmName};
use serde::Serialize;

use crate::start::drives::Drive;
use crate::{App, Error};

/// A drive that uses an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImageReference {
    /// The VM.
    pub vm: VmName,
    /// Its ID.
    pub id: VmId,
    /// The drive.
    pub drive: String,
    /// Whether the image is not that of the drive, but one of its backing files.
    pub is_backing: bool,
}

/// Returns the drives of all VMs that use an image, whatever its path there.
///
/// A VM whose definition is invalid is left out, as are drives whose images cannot be read.
pub(crate) async fn references(app: &App, image: FileId) -> Result<Vec<ImageReference>, Error> {
    let mut found = Vec::new();
    for entry in app.ports.store.list().await? {
        found.extend(references_of(app, &entry, image).await?);
    }
    Ok(found)
}

async fn references_of(app: &App, entry: &VmEntry, image: FileId) -> Result<Vec<ImageReference>, Error> {
    let Some(vm) = app.ports.store.by_id(&entry.id).await? else { return Ok(Vec::new()) };
    let machine = match app.machine(&vm) {
        Ok(machine) => machine,
        Err(error) => {
            tracing::debug!(vm = %entry.name, %error, "could not read the definition");
            return Ok(Vec::new());
        }
    };
    let vm_storage = app.folders.vm_storage(&entry.name);
    let mut found = Vec::new();
    for storage in &machine.storage {
        let Some(used) = Drive::new(storage, &vm_storage).image_use() else { continue };
        let chain = app.ports.image_tools.chain(&used).await;
        if let Some(position) = chain.iter().position(|link| link.file == Some(image)) {
            found.push(ImageReference {
                vm: entry.name.clone(),
                id: entry.id,
                drive: storage.name.to_string(),
                is_backing: position > 0,
            });
        }
    }
    Ok(found)
}
