//! Pictures of a guest's screen, on their way from QEMU to whoever wants them.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::error::{Cause, Explain, Fault};
use crate::picture::PictureFormat;
use crate::vm::RunPaths;

/// Why a picture could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// What QEMU wrote cannot be read.
    #[error("the picture that QEMU wrote cannot be read")]
    Unreadable {
        /// Why.
        source: Cause,
    },
    /// What QEMU wrote is no picture.
    #[error("QEMU wrote something that is no picture ({length} bytes)")]
    NotAPicture {
        /// How much it wrote.
        length: usize,
    },
    /// It cannot be made another format.
    #[error("the picture could not be made a PNG")]
    Unconverted {
        /// Why.
        source: Cause,
    },
    /// It cannot be written where it is to go.
    #[error("could not write `{}`", file.display())]
    Unwritable {
        /// Where it was to go.
        file: PathBuf,
        /// Why.
        source: Cause,
    },
}

impl Explain for PictureError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "screen.unreadable",
            Self::NotAPicture { .. } => "screen.not-a-picture",
            Self::Unconverted { .. } => "screen.unconverted",
            Self::Unwritable { .. } => "screen.unwritable",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::NotAPicture { .. } | Self::Unconverted { .. } => Fault::Failed,
            Self::Unreadable { .. } | Self::Unwritable { .. } => Fault::Host,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unwritable { .. } => vec!["look at the folder: is it there, is it yours, is it full?".to_owned()],
            Self::Unreadable { .. } | Self::NotAPicture { .. } | Self::Unconverted { .. } => Vec::new(),
        }
    }
}

/// A place in the private folder of a run where QEMU puts one picture; dropped, what is there is removed.
pub trait PicturePlace: Send + Sync {
    /// Returns where it is.
    fn path(&self) -> &Path;

    /// Returns what QEMU wrote there.
    ///
    /// Errors: `Unreadable`.
    fn read(&self) -> Result<Vec<u8>, PictureError>;
}

/// Handles pictures.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Pictures: Send + Sync {
    /// Returns a place for one picture, where nothing is.
    fn place(&self, paths: &RunPaths, format: PictureFormat) -> Box<dyn PicturePlace>;

    /// Returns a picture in PPM as PNG.
    ///
    /// Errors: `NotAPicture`, `Unconverted`.
    fn to_png(&self, ppm: &[u8]) -> Result<Vec<u8>, PictureError>;

    /// Puts a picture at `file` whole or not at all, as the caller's other files are made; a file that is there is
    /// replaced, and anything else that is there is not.
    ///
    /// Errors: `Unwritable`.
    async fn save(&self, file: &Path, picture: &[u8]) -> Result<(), PictureError>;
}
