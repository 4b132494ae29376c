//! `storage trash`: images of removed VMs; `storage orphaned` and `storage attach`: images that no VM uses.

mod attach;
mod empty;
mod ls;
mod orphaned;
mod restore;

pub use self::attach::{Attached, StorageAttach};
pub use self::empty::{DeletedEntry, Emptied, KeptEntry, StorageTrashEmpty};
pub use self::ls::StorageTrashLs;
pub use self::orphaned::{OrphanedImage, StorageOrphaned};
pub use self::restore::{Restored, RestoredImage, StorageTrashRestore};
