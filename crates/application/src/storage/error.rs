//! Why work on the image of a drive is refused.

use std::path::PathBuf;

use maqet_domain::error::{Explain, Explanation, Fault};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::StorageSpec;
use maqet_domain::text::quote;
use maqet_domain::vm::VmName;

use crate::trash::error::describe;
use crate::trash::used_files::{FileUse, FileUser};

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
    #[error(
        "cannot shrink drive `{drive}` of VM `{vm}` to {size}: its backing file `{}` has {backing_size}, of which the \
         guest would see only the beginning", backing.display()
    )]
    BelowBacking { vm: VmName, drive: String, size: ByteSize, backing: PathBuf, backing_size: ByteSize },
    #[error("disk image of drive `{drive}` of VM `{vm}` is in use: {}", describe(uses))]
    UsedByOthers { vm: VmName, drive: String, uses: Vec<FileUse> },
    #[error("disk image `{}` of drive `{drive}` is another one: its size is {found} instead of {recorded}", path.display())]
    AnotherImage { vm: VmName, drive: String, path: PathBuf, recorded: ByteSize, found: ByteSize },
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

/// Returns how the use of an image is ended.
fn way_out(user: &FileUser) -> String {
    match user {
        FileUser::Drive { vm, drive } => {
            format!("give it an image of its own first, as with `maqet storage convert {vm} {} qcow2`", quote(drive))
        }
        FileUser::Checkpoint { vm, checkpoint } => {
            format!("remove it first, if it is not needed: `maqet checkpoint rm {vm} {checkpoint}`")
        }
        FileUser::Image { path } => {
            format!(
                "delete `{}` first, if it is not needed; `maqet storage orphaned` lists such images",
                path.display()
            )
        }
        FileUser::Trash { entry, .. } => {
            format!("delete it for good first, if it is not needed: `maqet storage trash empty {entry}`")
        }
    }
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
            Self::BelowBacking { vm, drive, backing_size, .. } => {
                let drive = quote(drive);
                Explanation::new("storage.size-conflict", Fault::Usage)
                    .hint(format!("shrink it to no less than {backing_size}"))
                    .hint(format!(
                        "copy the data of the backing file into the image first, with `maqet storage convert {vm} {drive} \
                         qcow2`"
                    ))
            }
            Self::UsedByOthers { uses, .. } => {
                uses.iter().fold(Explanation::new("storage.image-in-use", Fault::State), |explanation, used| {
                    explanation.hint(way_out(&used.user))
                })
            }
            Self::AnotherImage { vm, .. } => Explanation::new("storage.image-conflict", Fault::State)
                .hint(format!("compare it with `maqet storage info {vm}` on the other host")),
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
