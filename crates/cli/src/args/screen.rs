//! `maqet screenshot`, which is short for `maqet qmp screendump`.

use std::path::PathBuf;

use clap::Args;
use maqet::HumanDuration;
use maqet::domain::picture::PictureFormat;

/// Take a screenshot of a running VM
///
/// `maqet screenshot` is short for `maqet qmp screendump`. The image is a PNG, or a PPM if the name of the file ends in
/// `.ppm`. It shows the output of the graphics card, whether or not the VM has a window. An existing file is replaced once
/// the image is complete.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet screenshot web screen.png
  maqet screenshot web - | tesseract - -")]
pub(crate) struct ScreenshotArgs {
    /// The VM: a name, an ID, or a unique prefix of an ID
    pub(crate) vm: String,
    /// File for the image, or `-` for standard output
    pub(crate) file: PathBuf,
    /// Format of the image, regardless of the name of the file: png or ppm
    #[arg(long, value_name = "FORMAT")]
    pub(crate) image_format: Option<PictureFormat>,
    /// Timeout [default: `timeouts.qmp`, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
}
