//! What a start checks and prepares before QEMU runs.

pub(crate) mod drive_conflicts;
pub(crate) mod firmware;
pub(crate) mod path_policy;
pub(crate) mod prepare_disks;
pub(crate) mod required_files;
pub(crate) mod setup_commands;
pub(crate) mod size_mismatch;
