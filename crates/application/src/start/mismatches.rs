//! Images whose size differs from the definition; they keep it.

use std::fmt;

use maqet_domain::machine::Machine;
use maqet_domain::size::ByteSize;
use maqet_domain::storage::Preparation;
use maqet_domain::vm::VmEntry;
use serde::Serialize;

use super::preflight::Preflight;

/// The unit of disk sizes, in bytes: `qemu-img` rounds up to whole sectors.
const SECTOR: u64 = 512;

/// A drive whose image exists and has another size than its definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SizeMismatch {
    /// The drive.
    pub drive: String,
    /// The size of its image.
    pub size_bytes: u64,
    /// The size in the definition.
    pub configured_bytes: u64,
}

impl fmt::Display for SizeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [size, configured] = [self.size_bytes, self.configured_bytes].map(ByteSize::from_bytes);
        write!(
            f,
            "drive `{}` keeps its size of {size}; `size: {configured}` applies only when an image is created",
            self.drive
        )
    }
}

impl Preflight<'_> {
    /// Returns the drives whose images have another size than in `machine`.
    ///
    /// An image that is recorded with its size is not opened.
    pub(crate) async fn size_mismatches(&self, entry: &VmEntry, machine: &Machine) -> Vec<SizeMismatch> {
        let mut mismatches = Vec::new();
        if machine.storage.iter().all(|storage| storage.size.is_none()) {
            return mismatches;
        }
        let records = self.store.storage_of_vm(&entry.id).await.unwrap_or_default();
        let vm_storage = self.folders.vm_storage(&entry.name);
        for storage in &machine.storage {
            let Some(size) = storage.size else { continue };
            let path = storage.path(&vm_storage);
            let is_image = matches!(storage.driver.preparation(storage, &path), Preparation::Image(_));
            let is_recorded = records.iter().any(|record| record.path == path && record.size == Some(size));
            if !is_image || is_recorded || !self.images.exists(&path).await {
                continue;
            }
            match self.images.info(&path).await {
                Ok(info) if info.virtual_size.bytes() != size.bytes().next_multiple_of(SECTOR) => {
                    mismatches.push(SizeMismatch {
                        drive: storage.name.to_string(),
                        size_bytes: info.virtual_size.bytes(),
                        configured_bytes: size.bytes(),
                    });
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(drive = %storage.name, %error, "could not read the size of the image"),
            }
        }
        mismatches
    }
}
