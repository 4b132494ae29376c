//! The locks that QEMU and `qemu-img` hold on images while they have them open (QEMU's `block/file-posix.c`).
//!
//! A process locks the byte 100 + N for a permission N that it uses, and 200 + N for one that it does not let others
//! use. The bytes need not exist. Where the file system has no locks, QEMU takes none.

use maqet_adapters_linux::process::OpenFileLocks;
use maqet_domain::port::{ImageError, ImageUse};
use maqet_domain::storage::ImageAccess;
use tokio::time::{Instant, sleep};

use super::examine::{OpenImage, chain};
use super::tool::user_of;
use crate::limits::{IMAGE_LOCK_INTERVAL, IMAGE_LOCK_TIMEOUT};

/// Others write it.
const WRITTEN: u64 = 101;
/// Others refuse reading it.
const READING_REFUSED: u64 = 200;
/// Others refuse writing it.
const WRITING_REFUSED: u64 = 201;

/// Returns an error if another process has the image or one of its backing files open in a way that excludes this use.
pub(super) async fn require_unlocked(image: &ImageUse) -> Result<(), ImageError> {
    let deadline = Instant::now() + IMAGE_LOCK_TIMEOUT;
    let images = chain(image);
    loop {
        let Some(locked) = first_locked(&images, image.access) else { return Ok(()) };
        if Instant::now() >= deadline {
            return Err(ImageError::InUse { path: locked.path.clone(), by: user_of(&locked.path) });
        }
        sleep(IMAGE_LOCK_INTERVAL).await;
    }
}

fn first_locked(images: &[OpenImage], access: ImageAccess) -> Option<&OpenImage> {
    let locks = OpenFileLocks::read();
    let is_locked = |(index, image): &(usize, &OpenImage)| {
        let bytes: &[_] = match access {
            // Not `WRITTEN`: with `share-rw=on`, several VMs may write to one disk. Else QEMU locks both.
            ImageAccess::Write if *index == 0 => &[WRITING_REFUSED],
            ImageAccess::Write | ImageAccess::Read => &[WRITTEN, READING_REFUSED],
        };
        image.file.metadata().is_ok_and(|file| bytes.iter().any(|byte| locks.contain(&file, *byte)))
    };
    images.iter().enumerate().find(is_locked).map(|(_, image)| image)
}
