//! What a start checks and prepares before it runs QEMU.
//!
//! [`preflight`] checks without creating anything: paths that no guest may access (`path_policy`), disks and files that
//! must exist and that QEMU can open (`check_disks`, `backing`, `drives`), images that were created once and are gone
//! ([`lost_images`]), images that differ from the definition ([`mismatches`]), firmware (`firmware`), the files of a `seed`, files that QEMU would overwrite (`written_files`). Then
//! [`create_disks`] creates the missing images. `setup_commands` prints the same preparation as shell commands.
//!
//! A changed definition is checked in part as well, where its problems have a source location; `drive_conflicts`, files
//! that drives share, is checked only then. At a start, the locks of QEMU tell whether another VM uses an image
//! (`image_owner`).

pub(crate) mod backing;
mod check_disks;
pub(crate) mod create_disks;
mod device_files;
pub(crate) mod disk_error;
mod drive_conflicts;
pub(crate) mod drives;
pub(crate) mod failure;
pub(crate) mod firmware;
pub(crate) mod firmware_files;
pub(crate) mod foreign_content;
mod host_use;
pub(crate) mod image_owner;
pub(crate) mod link_listeners;
mod link_sockets;
pub(crate) mod lost_images;
mod memory_files;
pub(crate) mod mismatches;
mod path_policy;
pub(crate) mod preflight;
mod seed;
mod setup_commands;
pub(crate) mod tap_devices;
pub(crate) mod tpm;
mod usb_devices;
mod written_files;
