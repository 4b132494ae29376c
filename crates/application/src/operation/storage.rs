//! `storage`: disk images as drives use them.

mod compact;
mod convert;
mod info;
mod ls;
mod resize;
mod target;
mod verify;

pub use self::compact::{StorageCompact, StorageCompacted};
pub use self::convert::{StorageConvert, StorageConverted};
pub use self::info::{ImageOpener, StorageDetails, StorageInfo};
pub use self::ls::{StorageLs, StoredDrive, StoredImage};
pub use self::resize::{StorageResize, StorageResized};
pub use self::verify::{StorageVerified, StorageVerify, VerifiedImage};
