//! Events: those that maqet stores, and those that QEMU writes into the QMP log of each run.
//!
//! - [`reader`] merges both in order, from a cursor on; [`window`] bounds how many it holds; [`filter`] checks patterns,
//!   and [`since`] says from when on they count.
//! - [`bus`] publishes the events of this instance to listeners and streams in the same process.
//! - [`hook_runner`] runs the user's programs on events; [`journal`] writes the journal of each VM.

pub(crate) mod bus;
pub(crate) mod filter;
pub(crate) mod hook_runner;
pub(crate) mod journal;
pub(crate) mod reader;
pub(crate) mod since;
pub(crate) mod window;
