//! Locks across processes: one operation at a time per VM, per disk image, and on the trash.

use std::any::Any;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Cause, Explain, Explanation, Fault};
use crate::vm::{VmId, VmName};

/// What is locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LockName {
    /// The VM: its definition, its run and its disks.
    Vm(VmId),
    /// The keyboard of a VM, while keys are sent.
    Keyboard(VmId),
    /// A VM that is thrown away, by the process that runs a command in it.
    ThrowAway(VmId),
    /// A disk image, by its canonical path: several VMs can have it.
    Image(PathBuf),
    /// The trash, whose entries are made, restored and deleted one at a time.
    Trash,
    /// Moves of databases: one at a time.
    Move,
    /// The making of a template of this name: one at a time.
    Template(VmName),
}

/// The process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process ID; `None` for a process of another PID namespace, which has none here.
    pub pid: Option<u32>,
    /// The operation, as in `start`.
    pub operation: String,
    /// When it took the lock.
    pub since: Timestamp,
}

impl Holder {
    /// Describes its process, as in `process 4711`.
    pub fn process(&self) -> String {
        self.pid.map_or_else(|| "a process of another PID namespace".to_owned(), |pid| format!("process {pid}"))
    }
}

/// Why a lock could not be taken.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum LockError {
    /// It stayed locked; `holder` is `None` where it could not be read, and `vm` until it is [named](Self::about).
    #[error("{} is locked by {}; waited {waited:?}", describe_vm(vm.as_deref()), describe(holder.as_ref()))]
    InUse { vm: Option<String>, holder: Option<Holder>, waited: Duration },
    #[error("disk image `{}` is locked by {}; waited {waited:?}", path.display(), describe(holder.as_ref()))]
    ImageInUse { path: PathBuf, holder: Option<Holder>, waited: Duration },
    #[error("the trash is locked by {}; waited {waited:?}", describe(holder.as_ref()))]
    TrashInUse { holder: Option<Holder>, waited: Duration },
    #[error("the database is locked by {}; waited {waited:?}", describe(holder.as_ref()))]
    DatabaseInUse { holder: Option<Holder>, waited: Duration },
    #[error("cannot lock `{}`", path.display())]
    Failed { path: PathBuf, source: Cause },
}

impl LockError {
    /// Returns whether one of these operations has the lock.
    pub fn is_held_by(&self, operations: &[&str]) -> bool {
        match self {
            Self::InUse { holder: Some(holder), .. } => operations.contains(&holder.operation.as_str()),
            Self::InUse { holder: None, .. }
            | Self::ImageInUse { .. }
            | Self::TrashInUse { .. }
            | Self::DatabaseInUse { .. }
            | Self::Failed { .. } => false,
        }
    }

    /// Names the VM, which the lock itself knows only by its ID.
    #[must_use]
    pub fn about(self, name: &str) -> Self {
        match self {
            Self::InUse { holder, waited, .. } => Self::InUse { vm: Some(name.to_owned()), holder, waited },
            Self::ImageInUse { .. } | Self::TrashInUse { .. } | Self::DatabaseInUse { .. } | Self::Failed { .. } => {
                self
            }
        }
    }
}

fn describe_vm(name: Option<&str>) -> String {
    name.map_or_else(|| "the VM".to_owned(), |name| format!("VM `{name}`"))
}

fn describe(holder: Option<&Holder>) -> String {
    holder.map_or_else(
        || "another process".to_owned(),
        |holder| format!("`{}` of {} since {:.0}", holder.operation, holder.process(), holder.since),
    )
}

impl Explain for LockError {
    fn explain(&self) -> Explanation {
        match self {
            Self::InUse { .. } | Self::ImageInUse { .. } | Self::TrashInUse { .. } | Self::DatabaseInUse { .. } => {
                Explanation::new("lock.in-use", Fault::Busy).hint("try again once the other operation is done")
            }
            Self::Failed { .. } => Explanation::new("lock.failed", Fault::Host)
                .hint("run `maqet doctor` to check whether the data directory is writable"),
        }
    }
}

/// Holds a lock until it is dropped; the kernel releases it when the process ends.
pub trait Guard: Send + Sync {
    /// Removes the lock file once the lock is released, because the VM is gone.
    fn retire(&mut self);

    /// Returns the locked handle, for an adapter to pass on to a child process: if this process is killed, the lock
    /// stays held until the child has exited, too.
    fn handle(&self) -> Option<&dyn Any> {
        None
    }
}

/// A held lock, as a parameter.
pub type HeldLock = dyn Guard;

/// Locks that hold across processes and are released when their holder dies.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Locks: Send + Sync {
    /// Locks `name` for `operation`, waiting at most `timeout`.
    ///
    /// Errors: `InUse` if it stayed locked, `Failed` if locking does not work here.
    async fn lock(&self, name: &LockName, operation: &str, timeout: Duration) -> Result<Box<dyn Guard>, LockError>;

    /// Returns whether a process that held `name` here was killed: it left the lock, which is removed with others.
    ///
    /// A lock that was taken where another directory has the locks is not known here, and was not left.
    async fn is_left(&self, name: &LockName) -> bool;

    /// Returns the current holder of `name`, if any.
    async fn holder(&self, name: &LockName) -> Option<Holder>;

    /// Returns all held locks with their holders, at a cost that does not grow with the number of free ones.
    ///
    /// A holder in another pid namespace may be missing; [`Locks::holder`] finds it.
    async fn held(&self) -> Vec<(LockName, Holder)>;
}
