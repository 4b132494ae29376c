//! The port [`BackupImages`]: images of backups and bitmaps in disks, through `qemu-img`.

use std::path::Path;

use async_trait::async_trait;
use maqet_domain::port::{BackupImages, HeldLock, ImageError, ImageUse};
use maqet_domain::storage::ImageAccess;
use maqet_domain::storage::qcow2::HEADER_BYTES;
use maqet_domain::storage::qcow2_bitmap::{BitmapDirectory, StoredBitmap};
use serde::Deserialize;

use super::QemuImg;
use super::examine::chain;
use super::tool::{Tool, io_error};
use crate::limits::{IMAGE_CREATE_TIMEOUT, IMAGE_MEASURE_TIMEOUT, MAX_BITMAP_DIRECTORY_BYTES};

/// The output of `qemu-img measure`.
#[derive(Deserialize)]
struct Measured {
    required: u64,
}

#[async_trait]
impl BackupImages for QemuImg {
    async fn create_full(&self, file: &Path, virtual_bytes: u64) -> Result<(), ImageError> {
        self.create_image(file, virtual_bytes, &[]).await
    }

    async fn create_increment(&self, file: &Path, virtual_bytes: u64, base: &Path) -> Result<(), ImageError> {
        let base = base.to_string_lossy();
        // Not opened, as it is relative to the final directory of the image.
        self.create_image(file, virtual_bytes, &["-u", "-F", "qcow2", "-b", &base]).await
    }

    async fn full_bytes(&self, disk: &Path, format: &str) -> Result<u64, ImageError> {
        let tool = Tool::find(&self.tools, "measure", disk, IMAGE_MEASURE_TIMEOUT)?;
        let options = ["measure", "-U", "--output=json", "-f", format, "-O", "qcow2"];
        let printed = tool.run(options, [tool.image()]).await?;
        let measured: Result<Measured, _> = serde_json::from_slice(&printed);
        let measured = measured.map_err(|error| tool.refusal(format!("invalid output of qemu-img: {error}")))?;
        Ok(measured.required)
    }

    async fn bitmaps(&self, disk: &Path) -> Result<Vec<StoredBitmap>, ImageError> {
        let image = ImageUse { path: disk.to_owned(), format: None, access: ImageAccess::Read };
        let Some(image) = chain(&image).into_iter().next() else {
            return Err(ImageError::NotFound { path: disk.to_owned() });
        };
        let read = |offset, bytes| image.read(offset, bytes).map_err(|error| io_error("read", disk, error));
        let Some(directory) = BitmapDirectory::find(&read(0, HEADER_BYTES)?) else { return Ok(Vec::new()) };
        let bytes = read(directory.offset, directory.bytes.min(MAX_BITMAP_DIRECTORY_BYTES))?;
        Ok(directory.parse(&bytes))
    }

    async fn remove_bitmap(&self, disk: &Path, name: &str, guard: &HeldLock) -> Result<(), ImageError> {
        let tool = Tool::in_place(&self.tools, "remove a bitmap from", disk, guard)?;
        tool.run(["bitmap", "--remove"], [tool.image(), name.into()]).await.map(drop)
    }
}

impl QemuImg {
    async fn create_image(&self, file: &Path, virtual_bytes: u64, options: &[&str]) -> Result<(), ImageError> {
        let tool = Tool::find(&self.tools, "create", file, IMAGE_CREATE_TIMEOUT)?;
        let options = ["create", "-q", "-f", "qcow2"].into_iter().chain(options.iter().copied());
        tool.run(options, [tool.image(), virtual_bytes.to_string().into()]).await.map(drop)
    }
}
