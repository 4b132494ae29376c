//! Disk images as operations on storage, snapshots and backups share them: their locks, and which VMs use them.

pub(crate) mod error;
pub(crate) mod lock;
pub(crate) mod recover;
pub(crate) mod reference;
pub(crate) mod size_change;
