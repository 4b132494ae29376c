//! Devices of running machines: the hot-plug session, removal, errors.

pub(crate) mod error;
pub(crate) mod removal;
pub(crate) mod session;
