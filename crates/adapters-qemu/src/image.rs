//! The port [`DiskImages`]: `qemu-img`, with typed results and timeouts.

mod backup;
mod check;
mod content;
mod create;
mod examine;
mod in_use;
mod info;
mod map;
mod progress;
mod resize;
mod rewrite;
mod snapshot_table;
mod state_file;
mod tool;
mod truncation;

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use maqet_adapters_linux::atomic_file::remove_abandoned;
use maqet_adapters_linux::{ProcessEnvironment, shared_id};
use maqet_domain::Timestamp;
use maqet_domain::port::{
    DiskImages, HeldLock, ImageCheck, ImageError, ImageFile, ImageInfo, ImageLink, ImageRepair, ImageSummary,
    ImageTools, ImageUse, ImageUser, ImageWork, RewritePlan, RewrittenImage,
};
use maqet_domain::qmp::wording::is_qemu_img_version;
use maqet_domain::size::ByteSize;
use maqet_domain::snapshot::ImageSnapshot;
use maqet_domain::storage::{FileId, ImagePlan, SharedFileId};
use maqet_fault_points::FaultPoints;

#[cfg(feature = "fuzzing")]
pub use self::info::read_image_info;
pub(crate) use self::tool::user_of;
use self::tool::{Tool, Tools};
use crate::limits::IMAGE_VERSION_TIMEOUT;

/// Disk images, through `qemu-img`.
#[derive(Debug)]
pub struct QemuImg {
    tools: Tools,
}

impl QemuImg {
    /// Runs the `qemu-img` in the `PATH` of `environment`.
    pub fn new(environment: ProcessEnvironment) -> Self {
        Self { tools: Tools { environment, faults: FaultPoints::default() } }
    }

    /// Reports its steps to `faults`.
    #[must_use]
    pub fn with_fault_points(self, faults: FaultPoints) -> Self {
        Self { tools: Tools { faults, ..self.tools } }
    }

    /// Returns the ID of the only snapshot with this tag.
    ///
    /// `qemu-img` 7.2 prefers an ID that equals the name (`-a`), and takes the first of several with one name (`-d`).
    fn snapshot_id(action: &'static str, path: &Path, tag: &str) -> Result<String, ImageError> {
        let refused = |stderr| Err(ImageError::Refused { action, path: path.to_owned(), stderr });
        let mut named = snapshot_table::snapshots(path)?.into_iter().filter(|snapshot| snapshot.name == tag);
        match (named.next(), named.next()) {
            (Some(only), None) => Ok(only.id),
            (None, _) => refused(format!("it has no snapshot `{tag}`")),
            (Some(_), Some(_)) => refused(format!("it has several snapshots `{tag}`")),
        }
    }

    async fn snapshot(
        &self,
        action: &'static str,
        option: &'static str,
        path: &Path,
        which: &str,
        guard: &HeldLock,
    ) -> Result<(), ImageError> {
        let tool = Tool::in_place(&self.tools, action, path, guard)?;
        if !path.exists() {
            return Err(ImageError::NotFound { path: path.to_owned() });
        }
        tool.run(["snapshot", "-q", option, which], [tool.image()]).await.map(drop)
    }
}

#[async_trait]
impl DiskImages for QemuImg {
    async fn tool_version(&self) -> Result<String, ImageError> {
        let tool = Tool::find(&self.tools, "get the version of", Path::new("/"), IMAGE_VERSION_TIMEOUT)?;
        let output = tool.run(["--version"], []).await?;
        let output = String::from_utf8_lossy(&output);
        let first = output.lines().next().unwrap_or_default().trim().to_owned();
        if is_qemu_img_version(&first) {
            return Ok(first);
        }
        Err(tool.refusal(format!("it printed `{first}`")))
    }

    async fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    async fn shared_id(&self, path: &Path) -> Option<SharedFileId> {
        shared_id(path)
    }

    async fn examine(&self, image: &ImageUse) -> Result<ImageSummary, ImageError> {
        examine::examine(image)
    }

    async fn content_start(&self, image: &ImageUse, bytes: usize) -> Result<Option<Vec<u8>>, ImageError> {
        content::start(image, bytes)
    }

    async fn require_unlocked(&self, image: &ImageUse) -> Result<(), ImageError> {
        in_use::require_unlocked(image).await
    }

    async fn create(&self, plan: &ImagePlan) -> Result<(), ImageError> {
        create::create(&self.tools, plan).await
    }

    async fn convert(&self, from: &Path, from_format: &str, to: &Path) -> Result<(), ImageError> {
        create::convert(&self.tools, from, from_format, to).await
    }

    async fn info(&self, path: &Path) -> Result<ImageInfo, ImageError> {
        info::info(&self.tools, path).await
    }

    async fn user(&self, path: &Path) -> Option<ImageUser> {
        user_of(path)
    }

    async fn snapshots(&self, path: &Path) -> Result<Vec<ImageSnapshot>, ImageError> {
        snapshot_table::snapshots(path)
    }

    async fn create_snapshot(&self, path: &Path, tag: &str, guard: &HeldLock) -> Result<(), ImageError> {
        self.snapshot("create a snapshot in", "-c", path, tag, guard).await
    }

    async fn load_snapshot(&self, path: &Path, tag: &str, guard: &HeldLock) -> Result<(), ImageError> {
        let action = "load a snapshot of";
        let id = Self::snapshot_id(action, path, tag)?;
        self.snapshot(action, "-a", path, &id, guard).await
    }

    async fn remove_snapshot(&self, path: &Path, tag: &str, guard: &HeldLock) -> Result<(), ImageError> {
        let action = "remove a snapshot of";
        Self::snapshot_id(action, path, tag)?;
        self.snapshot(action, "-d", path, tag, guard).await
    }

    async fn copy_state(&self, from: &Path, to: &Path) -> Result<(), ImageError> {
        state_file::copy(from, to)
    }

    async fn remove_state(&self, path: &Path) -> Result<(), ImageError> {
        state_file::remove(path)
    }

    async fn state_copies(&self, path: &Path) -> Result<Vec<String>, ImageError> {
        state_file::copies(path)
    }
}

#[async_trait]
impl ImageTools for QemuImg {
    async fn chain(&self, image: &ImageUse) -> Vec<ImageLink> {
        examine::links(image)
    }

    async fn identify(&self, path: &Path) -> Option<(PathBuf, FileId)> {
        let path = path.canonicalize().ok()?;
        let found = path.metadata().ok()?;
        Some((path, rewrite::file_id(&found)))
    }

    async fn modified(&self, path: &Path) -> Option<Timestamp> {
        Timestamp::try_from(path.metadata().ok()?.modified().ok()?).ok()
    }

    async fn has_data(&self, image: &ImageFile, from: ByteSize) -> Result<bool, ImageError> {
        map::has_data(&self.tools, image, from).await
    }

    async fn has_same_content(&self, image: &ImageFile, other: &ImageFile) -> Result<bool, ImageError> {
        check::has_same_content(&self.tools, image, other).await
    }

    async fn check<'w>(
        &self,
        image: &ImageFile,
        repair: Option<ImageRepair>,
        work: &ImageWork<'w>,
    ) -> Result<Option<ImageCheck>, ImageError> {
        check::check(&self.tools, image, repair, work).await
    }

    async fn copy<'w>(&self, from: &Path, to: &Path, work: &ImageWork<'w>) -> Result<(), ImageError> {
        rewrite::copy(&self.tools, from, to, work).await
    }

    async fn resize<'w>(
        &self,
        image: &ImageFile,
        size: ByteSize,
        may_shrink: bool,
        work: &ImageWork<'w>,
    ) -> Result<(), ImageError> {
        resize::resize(&self.tools, image, size, may_shrink, work).await
    }

    async fn commit<'w>(&self, image: &ImageFile, work: &ImageWork<'w>) -> Result<(), ImageError> {
        resize::commit(&self.tools, image, work).await
    }

    async fn rewrite<'w>(
        &self,
        plan: &RewritePlan,
        work: &ImageWork<'w>,
    ) -> Result<Box<dyn RewrittenImage>, ImageError> {
        rewrite::rewrite(&self.tools, plan, work).await
    }

    async fn remove_incomplete(&self, path: &Path) {
        remove_abandoned(path);
    }

    async fn remove(&self, path: &Path, file: FileId) -> Result<bool, ImageError> {
        let is_it = path.symlink_metadata().is_ok_and(|found| rewrite::file_id(&found) == file);
        if is_it {
            std::fs::remove_file(path).map_err(|error| tool::io_error("remove", path, error))?;
        }
        Ok(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn test_tool_version_missing_tool_is_reported() {
        let found = QemuImg::new(ProcessEnvironment::default()).tool_version().await;

        assert!(matches!(found, Err(ImageError::ToolNotFound { .. })), "{found:?}");
    }
}
