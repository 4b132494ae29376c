//! Snapshots of the disks of a VM, of one drive or of all as a set.
//!
//! | module | holds |
//! | --- | --- |
//! | `error` | why a snapshot cannot be created, loaded or removed |
//! | `recover` | what becomes of snapshots that were being created, loaded or removed when maqet was killed |

pub(crate) mod error;
pub(crate) mod recover;
