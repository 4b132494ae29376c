//! Images that QEMU could not open, or should not: what is wrong with them, and how to repair it.

use std::fmt;
use std::path::PathBuf;

use super::image_driver::is_image_type;
use crate::error::{Explain, Explanation, Fault};
use crate::text::quote;

/// How an image is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
pub enum ImageAccess {
    /// For reading only.
    #[strum(to_string = "read")]
    Read,
    /// For reading and writing.
    #[strum(to_string = "written")]
    Write,
}

/// What is wrong with an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageProblem {
    /// It does not exist; `directory` is the first directory of its path that does not, if one does not.
    NotFound {
        /// The missing directory.
        directory: Option<PathBuf>,
    },
    /// It is a directory.
    IsDirectory,
    /// This user may not open it; `reason` is the kernel's.
    NotPermitted {
        /// How.
        access: ImageAccess,
        /// Why.
        reason: String,
    },
    /// It is a block device that the host has mounted or claimed, and that is to be written.
    DeviceInUse,
    /// The host has mounted or claimed it through this loop device, and it is to be written.
    LoopInUse {
        /// The device.
        device: PathBuf,
    },
    /// It has another format than it should.
    Format {
        /// The format it should have.
        expected: String,
        /// The format that its content suggests, if it is a known one.
        found: Option<&'static str>,
    },
    /// It has a version, or values in its header, that QEMU does not support.
    Unsupported,
    /// It ends before its header does.
    HeaderTruncated,
    /// It ends before data that its tables refer to.
    Truncated {
        /// How many bytes it has.
        bytes: u64,
        /// How many bytes it had, at least.
        needed: u64,
    },
    /// QEMU found it damaged, and does not open it for writing.
    Corrupt,
    /// Its content is encrypted.
    Encrypted,
    /// The file with its data does not exist.
    DataFileNotFound {
        /// The file.
        path: PathBuf,
    },
    /// Its backing files refer to each other, or are too many.
    BackingLoop,
}

/// An image with a problem: the image of a drive, or one of its backing files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableImage {
    /// The image.
    pub path: PathBuf,
    /// The image of which it is the backing file, if it is one.
    pub overlay: Option<PathBuf>,
    /// What is wrong with it.
    pub problem: ImageProblem,
}

impl std::error::Error for UnusableImage {}

impl fmt::Display for UnusableImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.overlay {
            _ if self.problem == ImageProblem::DeviceInUse => write!(f, "block device `{}` ", self.path.display())?,
            None => write!(f, "disk image `{}` ", self.path.display())?,
            Some(overlay) => write!(f, "backing file `{}` of `{}` ", self.path.display(), overlay.display())?,
        }
        match &self.problem {
            ImageProblem::NotFound { directory: None } => f.write_str("not found"),
            ImageProblem::NotFound { directory: Some(directory) } => {
                write!(f, "not found: the directory `{}` does not exist; is its volume mounted?", directory.display())
            }
            ImageProblem::IsDirectory => f.write_str("is a directory"),
            ImageProblem::NotPermitted { access, reason } => write!(f, "cannot be {access}: {reason}"),
            ImageProblem::DeviceInUse => f.write_str("is mounted, or in use by another driver of the host"),
            ImageProblem::LoopInUse { device } => {
                write!(f, "is mounted, or in use by another driver of the host, by `{}`", device.display())
            }
            ImageProblem::Format { expected, found: None } => write!(f, "is not a {expected} image"),
            ImageProblem::Format { expected, found: Some(found) } => {
                write!(f, "is not a {expected} image, but looks like {found}")
            }
            ImageProblem::Unsupported => f.write_str("has a version of qcow2 that QEMU does not support"),
            ImageProblem::HeaderTruncated => f.write_str("is truncated: it ends within its header"),
            ImageProblem::Truncated { bytes, needed } => {
                write!(f, "is truncated: it has {bytes} bytes, and refers to data up to {needed}")
            }
            ImageProblem::Corrupt => f.write_str("is marked as corrupt"),
            ImageProblem::Encrypted => f.write_str("is encrypted, which is not supported"),
            ImageProblem::DataFileNotFound { path } => {
                write!(f, "has its data in `{}`, which does not exist", path.display())
            }
            ImageProblem::BackingLoop => f.write_str("is its own backing file, or has too many"),
        }
    }
}

impl Explain for UnusableImage {
    fn explain(&self) -> Explanation {
        let explain = Explanation::new;
        let path = quote(&self.path.to_string_lossy());
        match &self.problem {
            ImageProblem::NotFound { .. } => self.explain_not_found(),
            ImageProblem::IsDirectory => {
                explain("storage.file-invalid", Fault::Usage).hint("set `file` to an image under `storage`")
            }
            ImageProblem::NotPermitted { access, .. } => {
                let explanation = explain("storage.access-refused", Fault::Host)
                    .hint(format!("check its owner, its permissions and its file system: `ls -l {path}`"));
                match access {
                    ImageAccess::Read => explanation,
                    ImageAccess::Write => explanation.hint("set `readonly: true` if the guest only reads it"),
                }
            }
            ImageProblem::DeviceInUse | ImageProblem::LoopInUse { .. } => {
                self.explain_host_use("set `readonly: true` if the guest only reads it")
            }
            ImageProblem::Format { expected, found } => self.explain_format(expected, *found),
            ImageProblem::Unsupported => explain("storage.version-unsupported", Fault::Host)
                .hint(format!("check it with `qemu-img info {path}`"))
                .hint("install a newer QEMU, or convert it with the `qemu-img` that created it"),
            ImageProblem::HeaderTruncated => {
                explain("storage.image-corrupt", Fault::Host).hint("restore it from a backup, or copy it again")
            }
            ImageProblem::Truncated { needed, .. } => explain("storage.image-corrupt", Fault::Host)
                .hint("restore it from a backup, or copy it again")
                .hint(format!("fill the lost data with zeros: `truncate -s {needed} {path}`")),
            ImageProblem::Corrupt => explain("storage.image-corrupt", Fault::Host).hint(format!(
                "check it with `qemu-img check {path}`; to repair it, copy it, then run `qemu-img check -r all {path}`"
            )),
            ImageProblem::Encrypted => explain("storage.encryption-unsupported", Fault::Host)
                .hint("decrypt it with `qemu-img convert`")
                .hint("attach it under `arguments`, with `object: secret` and `blockdev`"),
            ImageProblem::DataFileNotFound { path } => explain("storage.data-file-not-found", Fault::NotFound)
                .hint(format!("move it back to {}, or mount its volume", quote(&path.to_string_lossy()))),
            ImageProblem::BackingLoop => explain("storage.backing-invalid", Fault::Host)
                .hint(format!("list its backing files with `qemu-img info --backing-chain {path}`")),
        }
    }
}

impl UnusableImage {
    /// Returns whether the host itself uses it.
    pub const fn is_used_by_host(&self) -> bool {
        matches!(self.problem, ImageProblem::DeviceInUse | ImageProblem::LoopInUse { .. })
    }

    /// Returns the explanation of an image that the host itself uses; `readonly` is how it is opened for reading only.
    pub fn explain_host_use(&self, readonly: &str) -> Explanation {
        let device = if let ImageProblem::LoopInUse { device } = &self.problem { device } else { &self.path };
        let device = quote(&device.to_string_lossy());
        Explanation::new("storage.device-in-use", Fault::Busy)
            .hint(format!("unmount it: `lsblk {device}` lists where it, or a part of it, is in use"))
            .hint(readonly)
    }

    fn explain_not_found(&self) -> Explanation {
        let Some(overlay) = &self.overlay else {
            return Explanation::new("storage.not-found", Fault::NotFound)
                .hint("move it back, mount its volume, or correct the path under `storage`");
        };
        let overlay = quote(&overlay.to_string_lossy());
        Explanation::new("storage.backing-not-found", Fault::NotFound).hint(format!(
            "move it back or mount its volume; if it has moved, run `qemu-img rebase -u -b NEW_PATH -F FORMAT {overlay}`"
        ))
    }

    fn explain_format(&self, expected: &str, found: Option<&str>) -> Explanation {
        let explanation = Explanation::new("storage.format-conflict", Fault::Usage);
        let path = quote(&self.path.to_string_lossy());
        match (&self.overlay, found) {
            (Some(overlay), _) => {
                let overlay = quote(&overlay.to_string_lossy());
                let found = found.unwrap_or("raw");
                explanation
                    .hint(format!("run `qemu-img rebase -u -b {path} -F {found} {overlay}` if it is a {found} image"))
            }
            (None, Some(found)) => {
                let by_type = is_image_type(found).then(|| format!("set `type: {found}` for the drive"));
                let explanation = by_type.into_iter().fold(explanation, Explanation::hint);
                explanation.hint(format!("convert it with `qemu-img convert -f {found} -O {expected} {path} NEW_PATH`"))
            }
            (None, None) => explanation
                .hint("set `type: raw` if it is a raw image")
                .hint("restore it from a backup if it was overwritten"),
        }
    }
}
