//! The serial console of a running machine.

use std::path::PathBuf;

use async_trait::async_trait;

use super::Holder;
use crate::error::{Cause, Explain, Fault};
use crate::vm::RunPaths;

/// Why nobody can be attached to a serial console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// It serves one at a time, and somebody else is attached.
    #[error("{} is attached to the serial console", taken_by(holder.as_ref()))]
    Taken {
        /// Who, if it is one of us.
        holder: Option<Holder>,
    },
    /// The machine has no such console.
    #[error("there is no serial console at `{}`{}", socket.display(), because(elsewhere.as_deref()))]
    Missing {
        /// Where it would be.
        socket: PathBuf,
        /// What the definition says of the serial port, if that is why.
        elsewhere: Option<String>,
    },
    /// The system refused.
    #[error("the serial console at `{}` does not work", socket.display())]
    Failed {
        /// Where it is.
        socket: PathBuf,
        /// Why.
        source: Cause,
    },
}

fn taken_by(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "a program that is not maqet's".to_owned(),
        |holder| format!("`{}` of process {} since {:.0}", holder.operation, holder.pid, holder.since),
    )
}

fn because(elsewhere: Option<&str>) -> String {
    elsewhere.map(|elsewhere| format!(": its definition says `{elsewhere}`")).unwrap_or_default()
}

impl Explain for ConsoleError {
    fn code(&self) -> &'static str {
        match self {
            Self::Taken { .. } => "console.taken",
            Self::Missing { .. } => "console.missing",
            Self::Failed { .. } => "console.failed",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::Taken { .. } => Fault::Busy,
            Self::Missing { .. } => Fault::State,
            Self::Failed { .. } => Fault::Failed,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Taken { .. } => {
                vec!["read along with `maqet logs VM --follow`, or try again once it is free".to_owned()]
            }
            Self::Missing { .. } => {
                vec!["say `serial: console` with `maqet apply VM --set serial=console`, and start it anew".to_owned()]
            }
            Self::Failed { .. } => Vec::new(),
        }
    }
}

/// A serial console that somebody is attached to; dropped, it is free for others.
///
/// Reading and writing may go on at the same time.
#[async_trait]
pub trait ConsoleStream: Send + Sync {
    /// Returns what the guest wrote next; nothing once QEMU has closed the console. A future that is dropped loses
    /// nothing.
    ///
    /// Errors: `Failed`.
    async fn read(&self) -> Result<Vec<u8>, ConsoleError>;

    /// Sends as many of `bytes` as are taken and returns how many, waiting while none are; 0 once QEMU has closed the
    /// console. A future that is dropped has sent nothing.
    ///
    /// Errors: `Failed`.
    async fn write(&self, bytes: &[u8]) -> Result<usize, ConsoleError>;

    /// Says that nothing more will be sent. Once the guest has taken all that was, QEMU closes the console; whoever
    /// drops it before that takes back what the guest has not taken yet.
    fn end(&self);
}

/// Attaches to serial consoles.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Consoles: Send + Sync {
    /// Attaches to the serial console of a run; what the guest wrote before is in its log only.
    ///
    /// Errors: `Taken`, `Missing`, `Failed`.
    async fn attach(&self, paths: &RunPaths) -> Result<Box<dyn ConsoleStream>, ConsoleError>;
}
