//! Screenshots, from QEMU to their destination.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::error::{Cause, Explain, Explanation, Fault};
use crate::picture::PictureFormat;
use crate::vm::RunPaths;

/// Why there is no screenshot.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum PictureError {
    #[error("cannot read the screenshot that QEMU wrote")]
    ReadFailed { source: Cause },
    #[error("QEMU wrote {length} bytes that are not an image")]
    InvalidImage { length: usize },
    #[error("cannot encode the screenshot as PNG")]
    EncodeFailed { source: Cause },
    /// The destination exists and cannot be replaced; `kind` is what it is.
    #[error("cannot write `{}`: it is {kind}", file.display())]
    NotAFile { file: PathBuf, kind: &'static str },
    #[error("cannot write `{}`", file.display())]
    WriteFailed { file: PathBuf, source: Cause },
}

impl PictureError {
    /// The kind of a directory.
    pub const DIRECTORY: &'static str = "a directory";
}

impl Explain for PictureError {
    fn explain(&self) -> Explanation {
        match self {
            Self::ReadFailed { .. } => Explanation::new("screen.read-failed", Fault::Host),
            Self::InvalidImage { .. } => Explanation::new("screen.image-invalid", Fault::Failed),
            Self::EncodeFailed { .. } => Explanation::new("screen.encode-failed", Fault::Failed),
            Self::NotAFile { file, kind } => {
                let directory = if *kind == Self::DIRECTORY { Some(file.as_path()) } else { file.parent() };
                let example = directory.unwrap_or(file).join("screenshot").with_extension("png");
                Explanation::new("screen.file-invalid", Fault::Usage)
                    .hint(format!("pass the path of a file, such as `{}`", example.display()))
            }
            Self::WriteFailed { .. } => Explanation::new("screen.write-failed", Fault::Host)
                .hint("check that the directory exists, is writable and has free space"),
        }
    }
}

/// A temporary file in the private directory of a run, which QEMU writes one screenshot to; removed on drop.
pub trait PictureFile: Send + Sync {
    /// Returns its path.
    fn path(&self) -> &Path;

    /// Returns the data that QEMU wrote.
    ///
    /// Errors: `ReadFailed`.
    fn read(&self) -> Result<Vec<u8>, PictureError>;
}

/// Files of screenshots, and their conversion.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Pictures: Send + Sync {
    /// Returns a temporary file for one screenshot; nothing exists at its path yet.
    fn new_file(&self, paths: &RunPaths, format: PictureFormat) -> Box<dyn PictureFile>;

    /// Converts PPM to PNG.
    ///
    /// Errors: `InvalidImage`, `EncodeFailed`.
    fn to_png(&self, ppm: &[u8]) -> Result<Vec<u8>, PictureError>;

    /// Writes a screenshot to `file` atomically, with the mode of any file the caller creates.
    ///
    /// A regular file is replaced, anything else is not. Errors: `NotAFile`, `WriteFailed`.
    async fn save(&self, file: &Path, picture: &[u8]) -> Result<(), PictureError>;
}
