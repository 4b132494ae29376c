//! What commands of QMP take, what they reach, and what the human monitor answers.
//!
//! [`Schema`] is what a QEMU tells of its own commands: with it the words of a person become typed arguments, and what
//! no QEMU would take is answered before one is asked. [`danger`] tells which commands reach the host, and
//! [`hmp_failure`] which answers of the human monitor are none.

mod danger;
mod device;
mod hmp;
pub mod schema;

pub use self::danger::{Danger, danger};
pub use self::device::DeviceProperties;
pub use self::hmp::{HUMAN_MONITOR, hmp_failure, human_monitor};
pub use self::schema::{Argument, Schema, SchemaError};
