//! Operations inside the guest.

mod cp;
mod detached;
mod exec;

pub use self::cp::{Copied, Cp};
pub use self::detached::{DetachedEnded, ExecAttach, ExecLs, ExecStop};
pub use self::exec::{Exec, ExecOutcome, ExecResult};
pub use crate::guest::request::{ExecVia, ExecWayRefused};
