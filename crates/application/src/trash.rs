//! The trash: what moves the images of a VM there and back, and what protects images that others use.
//!
//! [`own_images`] finds the images that maqet created for a VM, [`used_files`] who uses which file. [`moving`] moves
//! images to the trash: the VM records the entry as pending work before the first of them, and `recovery` has them moved
//! back if the process dies. [`restore`] moves them back to a VM, and returns those of a restore whose process died to the
//! trash. [`entries`] finds and describes entries;
//! [`interrupted`] finishes what killed processes began.

pub(crate) mod entries;
pub(crate) mod error;
pub(crate) mod interrupted;
pub(crate) mod moving;
pub(crate) mod own_images;
pub(crate) mod restore;
pub(crate) mod used_files;
