//! One operation at a time on one thing, across processes.

use std::any::Any;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Cause, Explain, Fault};
use crate::vm::VmId;

/// What is locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LockName {
    /// The life of a VM.
    Vm(VmId),
    /// The keyboard of a VM, while somebody presses its keys.
    Keyboard(VmId),
}

/// Who holds a lock, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// The operation, as in `start`.
    pub operation: String,
    /// Since when.
    pub since: Timestamp,
}

/// Why a lock could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody held it all the time.
    #[error("{}", held_by(holder.as_ref(), *waited))]
    Held {
        /// Who, where that could be read.
        holder: Option<Holder>,
        /// How long was waited.
        waited: Duration,
    },
    /// The lock itself does not work.
    #[error("locking is not possible")]
    Failed {
        /// Why.
        source: Cause,
    },
}

fn held_by(holder: Option<&Holder>, waited: Duration) -> String {
    let who = holder.map_or_else(
        || "another process".to_owned(),
        |holder| format!("`{}` of process {} since {:.0}", holder.operation, holder.pid, holder.since),
    );
    format!("the VM is locked by {who}; waited {waited:?}")
}

impl Explain for LockError {
    fn code(&self) -> &'static str {
        match self {
            Self::Held { .. } => "lock.held",
            Self::Failed { .. } => "lock.failed",
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::Held { .. } => Fault::Busy,
            Self::Failed { .. } => Fault::Host,
        }
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Held { .. } => vec!["try again once it is done".to_owned()],
            Self::Failed { .. } => vec!["see with `maqet doctor` whether the data folder can be written to".to_owned()],
        }
    }
}

/// Holds a lock until it is dropped; the kernel takes it back when the process ends.
pub trait Guard: Send + Sync {
    /// Removes, once the lock is given back, whatever was kept for it: the thing it locks is gone.
    fn retire(&mut self);

    /// Returns what the kernel locked, for an adapter that hands it to a program at work on the thing: should we be
    /// killed meanwhile, the lock is held until that program ended, too.
    fn handle(&self) -> Option<&dyn Any> {
        None
    }
}

/// A lock that is held, as it is handed on.
pub type HeldLock = dyn Guard;

/// Locks that hold across processes and die with their holder.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Locks: Send + Sync {
    /// Locks `name` for `operation`, waiting at most `patience`.
    ///
    /// Errors: `Held` when it stayed taken, `Failed` when locking does not work here.
    async fn lock(&self, name: &LockName, operation: &str, patience: Duration) -> Result<Box<dyn Guard>, LockError>;

    /// Returns who holds `name` right now, if anybody does.
    async fn holder(&self, name: &LockName) -> Option<Holder>;

    /// Returns all locks that are held right now, and by whom, at a cost that does not grow with those that are not.
    ///
    /// A holder in another pid namespace may be missing; [`Locks::holder`] finds that one too.
    async fn held(&self) -> Vec<(LockName, Holder)>;
}
