//! Why the disks of a VM do not allow a start.

use std::path::PathBuf;

use maqet_domain::error::{Cause, Explain, Explanation, Fault};
use maqet_domain::vm::VmName;

use super::lost_images::ImagesLost;

/// Why the disks of a VM do not allow a start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum DiskError {
    #[error(transparent)]
    Lost(#[from] ImagesLost),
    #[error("a disk of VM `{vm}` is in use by VM `{user}`")]
    InUse { vm: VmName, user: VmName, source: Cause },
    #[error("disk image `{}` of drive `{drive}` exists", path.display())]
    RecreateConflict { drive: String, path: PathBuf },
    #[error("maqet does not create the image of drive `{drive}` of VM `{vm}`")]
    RecreateUnsupported { vm: VmName, drive: String },
}

impl Explain for DiskError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Lost(lost) => lost.explain(),
            Self::InUse { user, .. } => Explanation::new("storage.in-use", Fault::Busy)
                .hint(format!("stop it with `maqet stop {user}`"))
                .hint("set `readonly: true` for the drive in both VMs, if neither writes it"),
            Self::RecreateConflict { .. } => Explanation::new("storage.image-exists", Fault::State)
                .hint("omit `--recreate` to use it")
                .hint("move it away to have an empty one created"),
            Self::RecreateUnsupported { .. } => Explanation::new("storage.recreate-unsupported", Fault::Usage)
                .hint("set a `size` for the drive to have maqet create its image"),
        }
    }
}
