//! The adapters against the real host: locks between processes, and processes.

#![expect(clippy::unwrap_used, reason = "clippy knows tests by their attribute, and helpers have none")]

mod copies;
mod kit;
mod locks;
mod processes;
