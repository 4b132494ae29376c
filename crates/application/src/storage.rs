//! Disk images as operations on storage, snapshots and backups share them: their locks, sizes and recovery.

pub(crate) mod error;
pub(crate) mod lock;
pub(crate) mod recover;
pub(crate) mod size_change;
