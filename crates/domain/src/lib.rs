//! The core of maqet: VMs, the rules for them, and QEMU's vocabulary.
//!
//! Everything here is a value or a pure function. This crate reads no clock, file, environment variable or random
//! source, needs no async runtime, and prints nothing: the outside world is reached through the traits of [`port`],
//! which adapters implement.
//!
//! The modules, from the bottom up; none imports one further down in this table:
//!
//! | module | holds |
//! | --- | --- |
//! | [`error`], [`text`], [`size`], [`registry`], [`picture`] | explained errors, quoting and suggestions, sizes, named values |
//! | [`qemu`], [`qmp`] | switches, node names, versions; commands, events, run states, the schema, host access |
//! | [`config`] | the YAML tree with source locations, and the problems found in it |
//! | [`keyboard`], [`hook`], [`path_policy`] | keys and layouts, hooks, directories that are not shared with guests |
//! | [`guest`] | the channels of a VM, the protocol of the guest agent, commands in the guest |
//! | [`first_boot`] | what a guest is set up with: the seed for cloud-init |
//! | [`storage`], [`network`], [`hotplug`] | drives and storage types, cards and forwarded ports, devices added while QEMU runs |
//! | [`machine`] | the checked description of a machine, and the configuration keys it is read from |
//! | [`vm`], [`snapshot`] | VMs and their runs, and the state of a VM ([`vm::Status`]) |
//! | [`backup`] | backups of disks, and how they build on each other |
//! | [`checkpoint`] | checkpoints of running machines, and QEMU's migration stream |
//! | [`upgrade`] | putting a running guest into another QEMU |
//! | [`command_line`] | QEMU's command line, computed from a machine ([`command_line::CommandLine`]) |
//! | [`event`], [`history`], [`change`], [`revert`] | the event log, the history, the changes of a commit, and what a call has that reverts one |
//! | [`metric`] | metrics and their histograms |
//! | [`port`] | traits for the outside world; implement them to replace SQLite or QEMU |
//!
//! To add a configuration key, implement [`machine::ConfigHandler`]; to add a storage type,
//! [`storage::StorageDriver`].

pub mod backup;
pub mod change;
pub mod checkpoint;
pub mod command_line;
pub mod config;
pub mod error;
pub mod event;
pub mod first_boot;
pub mod guest;
pub mod history;
pub mod hook;
pub mod hotplug;
pub mod keyboard;
pub mod machine;
pub mod metric;
pub mod network;
pub mod path_policy;
pub mod picture;
pub mod port;
pub mod qemu;
pub mod qmp;
pub mod registry;
pub mod revert;
pub mod size;
pub mod snapshot;
pub mod storage;
pub mod text;
pub mod trash;
pub mod upgrade;
pub mod vm;

pub use error::{Explain, Explanation, Fault};
pub use jiff::Timestamp;
