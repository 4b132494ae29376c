//! Changes the size of an image in place.

use maqet_domain::port::{ImageError, ImageFile, ImageWork};
use maqet_domain::size::ByteSize;

use super::check::require_file;
use super::tool::{Tool, Tools};
use crate::limits::IMAGE_RESIZE_TIMEOUT;

/// Changes the size; the tool holds the lock and goes on if this process is killed.
pub(super) async fn resize(
    tools: &Tools,
    image: &ImageFile,
    size: ByteSize,
    may_shrink: bool,
    work: &ImageWork<'_>,
) -> Result<(), ImageError> {
    let tool = Tool::find(tools, "resize", &image.path, IMAGE_RESIZE_TIMEOUT)?.holding(work.guard);
    require_file(&image.path)?;
    let mut options = vec!["resize", "-q", "-f", &image.format];
    if may_shrink {
        options.push("--shrink");
    }
    tool.run(options, [tool.image(), size.bytes().to_string().into()]).await.map(drop)
}
