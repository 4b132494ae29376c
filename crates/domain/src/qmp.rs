//! QMP: commands, errors, events, the schema of the commands, and what they could do to the host.
//!
//! [`Schema`] turns arguments into typed ones and refuses what QEMU would refuse, without asking it. [`host_access`] says
//! which commands reach the host. [`wording`] holds the texts of QEMU that have to be matched, and [`versions`] what differs
//! between its versions.

mod block;
mod command;
mod console;
mod device;
mod error;
mod event;
mod host_access;
mod job;
mod migration;
mod run_state;
pub mod schema;
pub mod sent;
pub mod versions;
pub mod wording;

pub use self::block::BlockMedium;
pub use self::command::QmpCommand;
pub use self::console::{DumpedDevice, FIRST_CONSOLE, FirstConsole, children, consoles_before_text};
pub use self::device::{DeviceProperties, TypeKind, TypeQuery, retyped};
pub use self::error::{ErrorClass, QmpError};
pub use self::event::{QmpEvent, event_names};
pub use self::host_access::{HostAccess, HostAccessRefused, check_host_access, host_access};
pub use self::job::{JobInfo, JobStatus};
pub use self::migration::{MigrationInfo, MigrationStatus};
pub use self::run_state::RunState;
pub use self::schema::{Argument, Schema, SchemaError};
