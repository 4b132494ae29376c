//! `storage`: disk images as drives use them.

mod info;
mod ls;

pub use self::info::{ImageOpener, StorageDetails, StorageInfo};
pub use self::ls::{StorageLs, StoredDrive, StoredImage};
