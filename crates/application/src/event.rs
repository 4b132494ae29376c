//! Events: reading those of the store and of QEMU, filters, hooks, the journal, and observers.

pub(crate) mod bus;
pub(crate) mod filter;
pub(crate) mod hooks;
pub(crate) mod journal;
pub(crate) mod reader;
pub(crate) mod window;
