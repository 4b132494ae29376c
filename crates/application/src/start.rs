//! What a start checks and prepares before it runs QEMU.
//!
//! [`preflight`] checks without creating anything: paths that no guest may access (`path_policy`), disks and files that
//! must exist (`check_disks`), image sizes that differ from the definition ([`size_mismatch`]), firmware (`firmware`).
//! Then [`create_disks`] creates the missing disks. `setup_commands` prints the same preparation as shell commands.
//!
//! A changed definition is checked in part as well, where its problems have a source location; `drive_conflicts`, files
//! that drives share, is checked only then.

mod check_disks;
pub(crate) mod create_disks;
mod drive_conflicts;
mod firmware;
mod path_policy;
pub(crate) mod preflight;
mod setup_commands;
pub(crate) mod size_mismatch;
