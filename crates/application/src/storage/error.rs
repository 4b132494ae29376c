//! Why work on the image of a drive is refused.

use std::path::PathBuf;

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::StorageSpec;
use maqet_domain::text::quote;
use maqet_domain::vm::VmName;

use super::reference::ImageReference;

/// Why work on the image of a drive is refused.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
#[non_exhaustive]
pub enum StorageError {
    #[error("drive `{drive}` of VM `{vm}` has type `{kind}`, which has no disk image")]
    NotAnImage { vm: VmName, drive: String, kind: &'static str },
    #[error("disk image `{}` of drive `{drive}` of VM `{vm}` is not a regular file", path.display())]
    NotAFile { vm: VmName, drive: String, path: PathBuf },
    /// The definition was changed since the start, or the drive was removed.
    #[error("the running VM `{vm}` does not have the disk image of drive `{drive}` at that drive")]
    NotAttached { vm: VmName, drive: String },
    #[error("cannot shrink drive `{drive}` of VM `{vm}` from {from} to {to}: what is behind the new end would be lost")]
    ShrinkRefused { vm: VmName, drive: String, from: ByteSize, to: ByteSize },
    #[error("disk image of drive `{drive}` of VM `{vm}` is used by {}", described(by))]
    UsedByOthers { vm: VmName, drive: String, by: Vec<ImageReference> },
    #[error("disk image of drive `{drive}` of VM `{vm}` has snapshots, which would be lost: {}", names.join(", "))]
    HasSnapshots { vm: VmName, drive: String, names: Vec<String> },
    /// It comes from the defaults of the settings.
    #[error("drive `{drive}` of VM `{vm}` is not in its definition, which therefore cannot be changed")]
    NotInDefinition { vm: VmName, drive: String },
    #[error("drive `{drive}` of VM `{vm}` has type `{kind}`, which cannot have the format `{format}`")]
    FormatUnsupported { vm: VmName, drive: String, kind: &'static str, format: String },
    #[error("disk image of drive `{drive}` of VM `{vm}` is damaged: {errors} errors")]
    Damaged { vm: VmName, drive: String, errors: u64 },
}

impl StorageError {
    pub(crate) fn not_an_image(vm: &VmName, spec: &StorageSpec) -> Self {
        Self::NotAnImage { vm: vm.clone(), drive: spec.name.to_string(), kind: spec.driver.type_name() }
    }
}

/// Returns the drives that use an image, as in `drive `hdd` of VM `a` (as a backing file)`.
fn described(references: &[ImageReference]) -> String {
    let describe = |reference: &ImageReference| {
        let how = if reference.is_backing { " (as a backing file)" } else { "" };
        format!("drive `{}` of VM `{}`{how}", reference.drive, reference.vm)
    };
    references.iter().map(describe).collect::<Vec<_>>().join(", ")
}

impl Explain for StorageError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotAnImage { vm, .. } => Explanation::new("storage.type-unsupported", Fault::State)
                .hint(format!("list the drives that have images with `maqet storage ls {vm}`")),
            Self::NotAFile { .. } => Explanation::new("storage.device-unsupported", Fault::State)
                .hint("change block devices with the tools of the host, such as `lvextend`"),
            Self::NotAttached { vm, .. } => Explanation::new("storage.drive-conflict", Fault::State)
                .hint(format!("restart the VM first, so that it has its definition: `maqet restart {vm}`")),
            Self::ShrinkRefused { .. } => Explanation::new("storage.shrink-refused", Fault::State)
                .hint("make the file systems and partitions in the guest smaller first, then pass `--shrink`"),
            Self::UsedByOthers { .. } => Explanation::new("storage.image-in-use", Fault::State)
                .hint("give the other drives images of their own first, with `maqet storage convert`"),
            Self::HasSnapshots { vm, drive, .. } => Explanation::new("storage.snapshots-conflict", Fault::State)
                .hint(format!("remove them with `maqet snapshot rm {vm} {} NAME`", quote(drive)))
                .hint("pass `--discard-snapshots` to remove all of them"),
            Self::NotInDefinition { vm, .. } => Explanation::new("storage.definition-conflict", Fault::State).hint(
                format!("show the definition with `maqet info {vm}`, and the defaults with `maqet config defaults`"),
            ),
            Self::FormatUnsupported { .. } => {
                Explanation::new("storage.format-unsupported", Fault::State).hint("set another `type` for the drive")
            }
            Self::Damaged { vm, drive, .. } => Explanation::new("storage.image-corrupt", Fault::Host)
                .hint(format!("repair it with `maqet storage verify {vm} {} --repair all`", quote(drive))),
        }
    }
}
