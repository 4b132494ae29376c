//! What a start checks and prepares before it runs QEMU.
//!
//! [`preflight`] checks and creates nothing: paths that no guest may get (`path_policy`), files that must exist
//! (`required_files`), files that drives share (`drive_conflicts`), image sizes that differ from the definition
//! ([`size_mismatch`]), firmware (`firmware`). Then [`prepare_disks`] creates the disks that are missing.
//! `setup_commands` prints the same preparation as shell commands.

mod drive_conflicts;
mod firmware;
mod path_policy;
pub(crate) mod preflight;
pub(crate) mod prepare_disks;
mod required_files;
mod setup_commands;
pub(crate) mod size_mismatch;
