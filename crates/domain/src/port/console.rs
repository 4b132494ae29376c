//! The serial console of a running VM.

use std::path::{Path, PathBuf};

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
    #[error("no serial console at `{}`{}", path.display(), because(serial.as_deref()))]
    Unavailable { path: PathBuf, serial: Option<String> },
    #[error("the serial console at `{}` failed", path.display())]
    Failed { path: PathBuf, source: Cause },
    /// QEMU closed it while the VM was running.
    #[error("QEMU closed the serial console")]
    Closed,
}

fn client(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "another client".to_owned(),
        |holder| format!("`{}` ({}, since {:.0})", holder.operation, holder.process(), holder.since),
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
            Self::Failed { .. } | Self::Closed => Explanation::new("console.failed", Fault::Failed),
        }
    }
}

/// A serial console to which the caller is attached until it is dropped.
///
/// Reading and writing may run concurrently; both are cancel safe.
#[async_trait]
pub trait ConsoleStream: Send + Sync {
    /// Returns what the input is written to: a FIFO, or a socket.
    fn input(&self) -> &Path;

    /// Returns the position in the serial log at which the output began; `None` if the output does not come from there.
    fn log_position(&self) -> Option<u64>;

    /// Returns the next output of the guest; empty once QEMU has closed the console, or has read the input after its
    /// [end](Self::end).
    ///
    /// Errors: `Failed`.
    async fn read(&self) -> Result<Vec<u8>, ConsoleError>;

    /// Sends as many of `bytes` as fit, waiting until some do, and returns how many; 0 once QEMU has closed the console.
    ///
    /// Errors: `Failed`.
    async fn write(&self, bytes: &[u8]) -> Result<usize, ConsoleError>;

    /// Announces the end of the input: [`read`](Self::read) returns nothing more once the guest has read all of it.
    /// Dropping the stream before that discards what the guest has not read.
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
