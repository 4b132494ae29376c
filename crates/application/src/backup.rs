//! Backups: which drives, the bitmaps in them, and the QEMU that copies them.
//!
//! [`changes`] removes the record of what changed from disks that are about to be rewritten.

pub(crate) mod changes;
