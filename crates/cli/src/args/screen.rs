//! `screenshot`, which is short for `qmp screendump`.

use std::path::PathBuf;

use clap::Args;
use maqet::HumanDuration;
use maqet::domain::picture::PictureFormat;

/// Take a picture of a running VM's screen
///
/// `maqet screenshot` is short for `maqet qmp screendump`. The picture is a PNG, or a PPM if the file's name ends so. It
/// is what the graphics card shows, whether or not a window does. A file that is there is replaced, once the picture is
/// whole.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  maqet screenshot web screen.png
  maqet screenshot web - | tesseract - -")]
pub(crate) struct ScreenshotArgs {
    /// Name, id, or unique beginning of an id
    pub(crate) vm: String,
    /// Where the picture goes, or `-` for standard output
    pub(crate) file: PathBuf,
    /// The format, whatever the name of the file: png or ppm
    #[arg(long, value_name = "FORMAT")]
    pub(crate) image_format: Option<PictureFormat>,
    /// How long QEMU may take [default: `timeouts.qmp`, else 30s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<HumanDuration>,
}
