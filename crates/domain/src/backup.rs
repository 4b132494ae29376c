//! Backups of the disks of a VM: their names, what is recorded of each, and how they build on each other.
//!
//! A backup is a directory with one qcow2 image for each drive and a [`BackupManifest`]. An incremental backup of a drive
//! has only what changed since an earlier one, whose image is its backing file, by a relative path: `qemu-img` alone reads
//! it, and the directories can be moved together.
//!
//! What changed is recorded by a dirty bitmap inside the disk, one for each backup, which begins with the backup and has
//! its name ([`bitmap_name`]). It stays until a later backup in the same directory is complete. A bitmap whose backup does
//! not exist is of no use, and a backup without its bitmap only serves to be restored: whatever dies in between, the next
//! increment either builds on the right backup, or the next backup is full.

mod catalog;
mod manifest;
mod name;
mod plan;
#[cfg(test)]
mod sample;

pub use self::catalog::{BackupCatalog, BackupProblem, DriveImage, FoundBackup};
pub use self::manifest::{
    BackedUpDrive, BackupContent, BackupManifest, BackupSource, BackupVm, FullReason, MANIFEST_FILE, MANIFEST_FORMAT,
};
pub use self::name::{BITMAP_PREFIX, BackupName, InvalidBackupName, bitmap_name, directory_hash};
pub use self::plan::{DirtyBitmap, DriveFacts, DrivePlan, obsolete_bitmaps, plan_drive, target_bytes};
