//! Changes the size of an image in place.

use maqet_domain::port::{ImageError, ImageFile, ImageWork};
use maqet_domain::size::ByteSize;

use super::check::require_file;
use super::tool::{Tool, Tools};

/// Changes the size.
pub(super) async fn resize(
    tools: &Tools,
    image: &ImageFile,
    size: ByteSize,
    may_shrink: bool,
    work: &ImageWork<'_>,
) -> Result<(), ImageError> {
    let tool = Tool::in_place(tools, "resize", &image.path, work.guard)?;
    require_file(&image.path)?;
    let mut options = vec!["resize", "-q", "-f", &image.format];
    if may_shrink {
        options.push("--shrink");
    }
    tool.run(options, [tool.image(), size.bytes().to_string().into()]).await.map(drop)
}
