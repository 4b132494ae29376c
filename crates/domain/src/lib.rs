//! The heart of maqet: what a VM is, which rules it obeys, and QEMU's words for it.
//!
//! Everything here is a value or a pure function. This crate refuses to read a clock, a file, an
//! environment variable or a random source, knows no async runtime, and prints nothing: the
//! world comes in through the traits of [`port`], which adapters implement.
//!
//! Where to look first:
//!
//! | for | see |
//! | --- | --- |
//! | what is stored about a VM | [`vm`] |
//! | what state it is in, honestly | [`vm::Status`] |
//! | the YAML tree and what is wrong with it | [`config`] |
//! | the checked description of a machine | [`machine::Machine`] |
//! | its QEMU command line | [`qemu::CommandLine`] |
//! | adding a configuration key or a storage type | [`plugin`] |
//! | replacing SQLite or QEMU | [`port`] |

pub mod change;
pub mod command_line;
pub mod config;
pub mod error;
pub mod event;
pub mod history;
pub mod hook;
pub mod hotplug;
pub mod keyboard;
pub mod machine;
pub mod network;
pub mod path_policy;
pub mod picture;
pub mod port;
pub mod qemu;
pub mod qmp;
pub mod registry;
pub mod size;
pub mod snapshot;
pub mod storage;
pub mod text;
pub mod vm;

pub use error::{Explain, Explanation, Fault};
pub use jiff::Timestamp;
