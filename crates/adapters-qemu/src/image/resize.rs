//! Changes the size of an image in place, and merges it into the one below.

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

/// Copies what an image has into its backing file, which is on disk then.
pub(super) async fn commit(tools: &Tools, image: &ImageFile, work: &ImageWork<'_>) -> Result<(), ImageError> {
    let tool = Tool::in_place(tools, "merge", &image.path, work.guard)?;
    require_file(&image.path)?;
    // Without emptying the image, which stays right until it is not used any more.
    let options = ["commit", "-p", "-d", "-t", "writeback", "-f", &image.format];
    let captured = tool.work(options, [tool.image()], work).await?;
    if captured.status.success() { Ok(()) } else { Err(tool.call_error(&captured)) }
}
