//! Devices of running VMs: the hot-plug session, removal of backends, errors.

pub(crate) mod backend_removal;
pub(crate) mod balloon_error;
pub(crate) mod image_format;
pub(crate) mod medium_error;
pub(crate) mod session;
