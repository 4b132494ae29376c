//! Snapshots of the disks of a VM, of one drive or of all as a set.
//!
//! | module | holds |
//! | --- | --- |
//! | `bitmaps` | dirty bitmaps of other tools, which keep a disk from being reverted |
//! | `check` | what blocks a snapshot, or makes it incomplete |
//! | `error` | why a snapshot cannot be created, loaded or removed |
//! | `selection` | which images a snapshot is of |
//! | `live` | creating, loading and removing snapshots of a running VM, by QEMU itself |
//! | `offline` | creating, loading and removing snapshots of images by `qemu-img` |
//! | `recover` | what becomes of snapshots that were being created, loaded or removed when maqet was killed |
//! | `tpm_copy` | copies of the state of a TPM, which are kept with safety snapshots |

pub(crate) mod bitmaps;
pub(crate) mod check;
pub(crate) mod error;
pub(crate) mod live;
pub(crate) mod offline;
pub(crate) mod recover;
pub(crate) mod selection;
pub(crate) mod tpm_copy;
