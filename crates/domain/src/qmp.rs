//! What commands of QMP take, what they reach, and what the human monitor answers.
//!
//! [`Schema`] is what a QEMU tells of its own commands: with it the words of a person become typed arguments, and what
//! no QEMU would take is answered before one is asked. [`host_access`] tells which commands reach the host, and
//! [`hmp_failure`] which answers of the human monitor are none.

mod command;
mod device;
mod error;
mod event;
mod hmp;
mod host_access;
mod run_state;
pub mod schema;

pub use self::command::QmpCommand;
pub use self::device::DeviceProperties;
pub use self::error::QmpError;
pub use self::event::QmpEvent;
pub use self::hmp::{HUMAN_MONITOR, hmp_failure, human_monitor};
pub use self::host_access::{HostAccess, host_access};
pub use self::run_state::RunState;
pub use self::schema::{Argument, Schema, SchemaError};
