//! Why the disks of a VM do not allow a start.

use std::path::PathBuf;

use maqet_domain::error::{Cause, Explain, Explanation, Fault};
use maqet_domain::first_boot::InvalidSeed;
use maqet_domain::port::{FileError, ImageError, PathObstacle};
use maqet_domain::size::ByteSize;
use maqet_domain::storage::UnusableImage;
use maqet_domain::text::quote;
use maqet_domain::vm::VmName;

use super::failure::virtiofsd_hint;
use super::firmware::VARIABLES_NAME;
use super::firmware_files::FirmwareRefusal;
use super::foreign_content::ForeignContent;
use super::lost_images::ImagesLost;
use super::memory_files::MemoryRefusal;
use super::written_files::OutputRefusal;

/// An overlay that would be smaller than its backing file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("drive `{drive}` has a size of {size}, and its backing file `{}` has {backing_size}", backing.display())]
pub struct OverlayTooSmall {
    /// The drive.
    pub drive: String,
    /// The size in the definition.
    pub size: ByteSize,
    /// The backing file.
    pub backing: PathBuf,
    /// Its size.
    pub backing_size: ByteSize,
}

impl OverlayTooSmall {
    /// Returns how to fix it.
    pub(crate) fn help(&self) -> String {
        format!("remove `size` for one of {size}, or set `size: {size}` or more", size = self.backing_size)
    }
}

/// Why the disks of a VM do not allow a start.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum DiskError {
    #[error(transparent)]
    Lost(#[from] ImagesLost),
    #[error(transparent)]
    Firmware(#[from] FirmwareRefusal),
    #[error(transparent)]
    Foreign(#[from] ForeignContent),
    #[error(transparent)]
    Output(#[from] OutputRefusal),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Seed(#[from] InvalidSeed),
    #[error(transparent)]
    OverlayTooSmall(#[from] OverlayTooSmall),
    /// An image that maqet does not create; `hint` says what to do instead, or how it would.
    #[error("{error}")]
    NotFound { hint: &'static str, error: ImageError },
    #[error("socket `{}` of share `{share}` not found", path.display())]
    SocketNotFound { share: String, path: PathBuf },
    /// `backing` is the image, if it is a backing file.
    #[error("a disk of VM `{vm}` is in use by VM `{user}`")]
    InUse { vm: VmName, user: VmName, backing: Option<PathBuf>, source: Cause },
    #[error("VM `{vm}` uses disk image `{}` twice", path.display())]
    UsedTwice { vm: VmName, path: PathBuf, source: Cause },
    /// Of an image that a switch of the user opens, and the host uses.
    #[error("{error}")]
    UsedByHost { readonly: &'static str, error: UnusableImage },
    /// One is a part or a view of the other.
    #[error("VM `{vm}` uses `{}` twice: `{}` is a part or a view of it", path.display(), device.display())]
    Overlap { vm: VmName, path: PathBuf, device: PathBuf },
    /// A file that QEMU would create among the devices of the host.
    #[error("`{}`, which QEMU is to write to, does not exist; as root, it would create a regular file", path.display())]
    DeviceNotFound { path: PathBuf },
    #[error(transparent)]
    Memory(#[from] MemoryRefusal),
    /// A file that may exist: this user cannot enter its directory, or not use it.
    #[error("`{}` cannot be used", path.display())]
    Unreachable { path: PathBuf, source: PathObstacle },
    #[error("disk image `{}` of drive `{drive}` exists", path.display())]
    RecreateConflict { drive: String, path: PathBuf },
    #[error("maqet does not create the image of drive `{drive}` of VM `{vm}`")]
    RecreateUnsupported { vm: VmName, drive: String },
    #[error("UEFI variables `{}` not found", path.display())]
    VariablesNotFound { path: PathBuf },
    #[error("UEFI variables `{}` cannot be used: it is not a regular file", path.display())]
    VariablesNotAFile { path: PathBuf },
    #[error("UEFI variables `{}` cannot be used: {reason}", path.display())]
    VariablesInvalid { path: PathBuf, reason: String },
    #[error("the UEFI variables of VM `{vm}` have no keys for Secure Boot: `{}`", path.display())]
    VariablesConflict { vm: VmName, path: PathBuf },
    #[error("UEFI variables `{}` have no keys for Secure Boot", path.display())]
    VariablesWithoutKeys { path: PathBuf },
}

impl Explain for DiskError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Lost(lost) => lost.explain(),
            Self::Firmware(refusal) => refusal.explain(),
            Self::Foreign(foreign) => foreign.explain(),
            Self::Output(refusal) => refusal.explain(),
            Self::File(error) => error.explain(),
            Self::Seed(invalid) => invalid.explain(),
            Self::OverlayTooSmall(overlay) => {
                Explanation::new("storage.size-conflict", Fault::Usage).hint(overlay.help())
            }
            Self::NotFound { hint, error } => error.explain().hint(*hint),
            Self::SocketNotFound { path, .. } => Explanation::new("storage.socket-not-found", Fault::NotFound)
                .hint(virtiofsd_hint(&quote(&path.to_string_lossy())))
                .hint("correct the `socket` under `storage`"),
            Self::InUse { user, backing, .. } => Explanation::new("storage.in-use", Fault::Busy)
                .hint(format!("stop it with `maqet stop {user}`"))
                .hint(match backing {
                    Some(backing) => format!(
                        "copy the backing file `{}` for one of the two: VM `{user}` writes to it, which damages its overlays",
                        backing.display()
                    ),
                    None => "set `readonly: true` for the drive in both VMs, if neither writes it".to_owned(),
                }),
            Self::UsedByHost { readonly, error } => error.explain_host_use(readonly),
            Self::Memory(refusal) => refusal.explain(),
            Self::Unreachable { source, .. } => {
                Explanation::new("host.path-refused", Fault::Host).hint(source.hint())
            }
            Self::DeviceNotFound { .. } => Explanation::new("qemu.file-not-found", Fault::NotFound)
                .hint("plug the device in; `ls /dev` lists those of the host")
                .hint("correct the path under `arguments` or `args`, or that of `serial`"),
            Self::UsedTwice { .. } | Self::Overlap { .. } => Explanation::new("storage.use-conflict", Fault::Usage)
                .hint("remove one of the two, under `storage`, `arguments` or `args`")
                .hint("set `readonly` for both, if the guest only reads it"),
            Self::RecreateConflict { .. } => Explanation::new("storage.image-exists", Fault::State)
                .hint("omit `--recreate` to use it")
                .hint("move it away to have an empty one created"),
            Self::RecreateUnsupported { .. } => Explanation::new("storage.recreate-unsupported", Fault::Usage)
                .hint("set a `size` for the drive to have maqet create its image"),
            Self::VariablesNotFound { .. } => Explanation::new("firmware.variables-not-found", Fault::NotFound)
                .hint("correct `variables` under `firmware`, or remove it to begin with the firmware's own"),
            Self::VariablesNotAFile { .. } => Explanation::new("firmware.variables-invalid", Fault::Usage)
                .hint("name a file with variables, as `OVMF_VARS_4M.fd`, or remove `variables` under `firmware`"),
            Self::VariablesInvalid { path, .. } => Explanation::new("firmware.variables-invalid", Fault::Usage)
                .hint(format!("convert it with `qemu-img convert -O raw {} FILE`", quote(&path.to_string_lossy()))),
            Self::VariablesConflict { vm, .. } => Explanation::new("firmware.variables-conflict", Fault::State)
                .hint(format!("move them away, and create others with `maqet start {vm} --recreate {VARIABLES_NAME}`"))
                .hint("remove `secure_boot` from `firmware` to go on without it, or to enroll keys in the guest"),
            Self::VariablesWithoutKeys { .. } => Explanation::new("firmware.variables-conflict", Fault::State)
                .hint("remove `variables` from `firmware` to begin with the keys of Microsoft")
                .hint("set `secure_boot: false` until keys are enrolled"),
        }
    }
}
