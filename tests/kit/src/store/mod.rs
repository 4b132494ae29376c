//! The in-memory store, and the conformance suite of every store.

pub mod conformance;
mod memory;
pub mod sample;

pub use memory::MemoryStore;
