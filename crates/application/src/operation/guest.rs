//! Operations inside the guest.

mod cp;
mod detached;
mod exec;
mod login;
mod ssh_config;
mod ways;

pub use self::cp::{Copied, Cp};
pub use self::detached::{DetachedEnded, ExecAttach, ExecLs, ExecStop};
pub use self::exec::{Exec, ExecOutcome, ExecResult};
pub use self::ssh_config::{SshConfig, SshConfigured};
pub use crate::guest::request::{ExecVia, ExecWayRefused};
