//! The locks that QEMU and `qemu-img` hold on images while they have them open (QEMU's `block/file-posix.c`).
//!
//! A process locks the byte 100 + N for a permission N that it uses, and 200 + N for one that it does not let others
//! use. The bytes need not exist. Where the file system has no locks, QEMU takes none.

use maqet_adapters_linux::process::is_locked;
use maqet_domain::port::{ImageError, ImageUse};
use maqet_domain::storage::ImageAccess;
use tokio::time::{Instant, sleep};

use super::examine::{OpenImage, chain};
use super::tool::user_of;
use crate::limits::{IMAGE_LOCK_INTERVAL, IMAGE_LOCK_TIMEOUT};

/// Others write it.
const WRITTEN: i64 = 101;
/// Others refuse reading it.
const READING_REFUSED: i64 = 200;
/// Others refuse writing it.
const WRITING_REFUSED: i64 = 201;

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
    let is_excluded = |(index, image): &(usize, &OpenImage)| {
        let bytes: &[_] = match access {
            // Not `WRITTEN`: with `share-rw=on`, several VMs may write to one disk. Else QEMU locks both.
            ImageAccess::Write if *index == 0 => &[WRITING_REFUSED],
            ImageAccess::Write | ImageAccess::Read => &[WRITTEN, READING_REFUSED],
        };
        bytes.iter().any(|byte| is_locked(&image.file, *byte))
    };
    images.iter().enumerate().find(is_excluded).map(|(_, image)| image)
}
