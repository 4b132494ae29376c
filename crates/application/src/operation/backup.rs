//! `backup`: copies of the disks of a VM, full or incremental, in a directory.

mod create;
mod info;
mod ls;
mod restore;
mod rm;
mod verify;

pub use self::create::{BackupCreate, BackupCreated};
pub use self::info::{BackupDriveInfo, BackupInfo, UnreadableBackup};
pub use self::ls::{BackupList, BackupLs};
pub use self::restore::{BackupRestore, BackupRestored, RestoredDrive};
pub use self::rm::{BackupRemoved, BackupRm};
pub use self::verify::{BackupVerified, BackupVerify};
