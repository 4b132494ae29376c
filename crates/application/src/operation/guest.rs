//! Operations inside the guest.

mod exec;

pub use self::exec::{Exec, ExecOutcome, ExecResult};
pub use crate::guest::request::{ExecVia, ExecWayRefused};
