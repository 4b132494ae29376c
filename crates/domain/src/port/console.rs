//! The serial console of a running VM.

use std::path::PathBuf;

use async_trait::async_trait;

use super::Holder;
use crate::error::{Cause, Explain, Explanation, Fault};
use crate::vm::RunPaths;

/// Why a client cannot attach to a serial console.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum ConsoleError {
    /// Another client is attached; `holder` is set if it is a maqet process.
    #[error("{} is attached", client(holder.as_ref()))]
    InUse { holder: Option<Holder> },
    /// There is no console; `serial` is the definition of the serial port, if that is the reason.
    #[error("no serial console at `{}`{}", socket.display(), because(serial.as_deref()))]
    Unavailable { socket: PathBuf, serial: Option<String> },
    #[error("the serial console at `{}` failed", socket.display())]
    Failed { socket: PathBuf, source: Cause },
}

fn client(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "another client".to_owned(),
        |holder| format!("`{}` (process {}, since {:.0})", holder.operation, holder.pid, holder.since),
    )
}

fn because(serial: Option<&str>) -> String {
    serial.map(|serial| format!(": the definition has `{serial}`")).unwrap_or_default()
}

impl Explain for ConsoleError {
    fn explain(&self) -> Explanation {
        match self {
            Self::InUse { .. } => Explanation::new("console.in-use", Fault::Busy),
            Self::Unavailable { .. } => Explanation::new("console.unavailable", Fault::State),
            Self::Failed { .. } => Explanation::new("console.failed", Fault::Failed),
        }
    }
}

/// A serial console to which the caller is attached until it is dropped.
///
/// Reading and writing may run concurrently; both are cancel safe.
#[async_trait]
pub trait ConsoleStream: Send + Sync {
    /// Returns the next output of the guest; empty once QEMU has closed the console.
    ///
    /// Errors: `Failed`.
    async fn read(&self) -> Result<Vec<u8>, ConsoleError>;

    /// Sends as many of `bytes` as fit, waiting until some do, and returns how many; 0 once QEMU has closed the console.
    ///
    /// Errors: `Failed`.
    async fn write(&self, bytes: &[u8]) -> Result<usize, ConsoleError>;

    /// Announces the end of the input: QEMU closes the console once the guest has read it. Dropping the stream before
    /// that discards what the guest has not read.
    fn end(&self);
}

/// Attaches to serial consoles.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Consoles: Send + Sync {
    /// Attaches to the serial console of a run; earlier output is in its log only.
    ///
    /// Errors: `InUse`, `Unavailable`, `Failed`.
    async fn attach(&self, paths: &RunPaths) -> Result<Box<dyn ConsoleStream>, ConsoleError>;
}
