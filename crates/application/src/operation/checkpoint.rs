//! `checkpoint`: memory, devices and disks of running VMs, of one moment.

mod cancel;
mod check;
mod create;
pub(crate) mod fork;
mod info;
mod ls;
mod restore;
mod rm;

pub use self::cancel::{CheckpointCancel, CheckpointCanceled};
pub use self::check::{CheckpointCheck, CheckpointObstacle, CheckpointReadiness};
pub use self::create::{CheckpointCreate, CheckpointCreated};
pub use self::fork::{Fork, ForkNetwork, Forked};
pub use self::info::{CheckpointDetails, CheckpointDisk, CheckpointInfo};
pub use self::ls::{CheckpointList, CheckpointLs, CheckpointSummary, UnusableCheckpoint};
pub use self::restore::{CheckpointRestore, CheckpointRestored};
pub use self::rm::{CheckpointRemoved, CheckpointRm};
