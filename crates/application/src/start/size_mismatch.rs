//! Images that keep their size, whatever the definition says.

use std::fmt;

use maqet_domain::machine::Machine;
use maqet_domain::size::ByteSize;
use maqet_domain::storage::Preparation;
use maqet_domain::vm::VmEntry;
use serde::Serialize;

use crate::App;

/// What sizes of disks are multiples of: `qemu-img` rounds up to whole sectors.
const SECTOR: u64 = 512;

/// A drive whose image is there and has another size than the definition says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SizeMismatch {
    /// The drive.
    pub drive: String,
    /// The size of its image, in bytes.
    pub size: u64,
    /// What the definition says, in bytes.
    pub configured: u64,
}

impl fmt::Display for SizeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [size, configured] = [self.size, self.configured].map(ByteSize::from_bytes);
        write!(
            f,
            "the image of the drive `{}` keeps its size of {size}: `size: {configured}` is for an image that is made",
            self.drive
        )
    }
}

impl App {
    /// Returns the drives whose images have another size than `machine` says.
    ///
    /// What was written down when an image was made saves a look at it.
    pub(crate) async fn size_mismatches(&self, entry: &VmEntry, machine: &Machine) -> Vec<SizeMismatch> {
        let mut kept = Vec::new();
        if machine.storage.iter().all(|storage| storage.size.is_none()) {
            return kept;
        }
        let records = self.ports.store.of_vm(&entry.id).await.unwrap_or_default();
        let vm_storage = self.vm_storage(&entry.name);
        for storage in &machine.storage {
            let Some(size) = storage.size else { continue };
            let path = storage.path(&vm_storage);
            let is_made = matches!(storage.driver.preparation(storage, &path), Preparation::Image(_));
            let is_as_made = records.iter().any(|record| record.path == path && record.size == Some(size));
            if !is_made || is_as_made || !self.ports.images.exists(&path).await {
                continue;
            }
            match self.ports.images.info(&path).await {
                Ok(info) if info.virtual_size.bytes() != size.bytes().next_multiple_of(SECTOR) => {
                    kept.push(SizeMismatch {
                        drive: storage.name.to_string(),
                        size: info.virtual_size.bytes(),
                        configured: size.bytes(),
                    });
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(drive = %storage.name, %error, "the size of the image is not known"),
            }
        }
        kept
    }
}
