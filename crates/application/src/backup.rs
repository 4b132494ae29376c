//! Backups: which drives, the bitmaps in them, and the QEMU that copies them.
//!
//! `create` makes a backup through a `copier`, a session with the QEMU of the VM or, for one that is not running, with a
//! QEMU without a guest. `place` finds the backups of a VM, `restore` and `verify` work on their images, and `recover`
//! cleans up after a process that was killed. [`changes`] removes the record of what changed from disks that are about to
//! be rewritten.

pub(crate) mod changes;
mod copier;
pub(crate) mod create;
pub(crate) mod drive;
pub(crate) mod error;
pub(crate) mod place;
pub(crate) mod recover;
pub(crate) mod restore;
