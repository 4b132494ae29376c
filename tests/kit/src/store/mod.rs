//! The store in memory, and the suite that it and every other store has to pass.

pub mod conformance;
mod memory;
pub mod sample;

pub use memory::MemoryStore;
