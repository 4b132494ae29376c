//! Files in maqet's directories and the QEMU processes they belong to, including those without a VM.

use std::path::PathBuf;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::{Cause, Explain, Explanation, Fault};
use crate::vm::{BootNumber, ProcessIdentity, RunPaths, VmId};

/// A running QEMU with sockets in the runtime directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuInstance {
    /// Its process.
    pub process: ProcessIdentity,
    /// The name of its VM's directory: the short form of the ID.
    pub short: String,
    /// The VM's ID, from its command line.
    pub id: Option<VmId>,
    /// The VM's name, from its command line.
    pub name: Option<String>,
    /// The boot number.
    pub boot: BootNumber,
    /// When it was started, estimated from its files.
    pub started_at: Timestamp,
    /// Where its files are.
    pub paths: RunPaths,
    /// Whether it belongs to a VM of another, existing database.
    pub is_foreign: bool,
}

/// What a file or directory belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StaleFileKind {
    /// The sockets of one run.
    Sockets {
        /// The name of the VM's directory: the short form of the ID.
        short: String,
        /// The boot number.
        boot: BootNumber,
    },
    /// The records of a VM: logs, and the copy of its definition.
    Records {
        /// The VM.
        id: VmId,
        /// The boots that have records, each with the time its records were created.
        boots: Vec<(BootNumber, Timestamp)>,
        /// When the copy of its definition was written; `None` without a copy.
        copied_at: Option<Timestamp>,
    },
    /// The lock of a VM.
    Lock {
        /// The VM.
        id: VmId,
    },
    /// A temporary file whose process has exited.
    Temporary,
}

/// A file or directory of maqet that may be stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleFile {
    /// What it belongs to.
    pub kind: StaleFileKind,
    /// Where it is.
    pub path: PathBuf,
    /// Whether it belongs to a VM of another, existing database.
    pub is_foreign: bool,
}

/// A file that could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove `{}`", path.display())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct RemoveError {
    pub path: PathBuf,
    pub source: Cause,
}

impl Explain for RemoveError {
    fn explain(&self) -> Explanation {
        Explanation::new("host.remove-failed", Fault::Host).hint("check the owner and the permissions of its directory")
    }
}

/// Searches maqet's directories and the processes of this user.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait StaleFiles: Send + Sync {
    /// Returns the QEMU instances that belong to none of the VMs `known`; cheap if there are no such directories.
    async fn orphans(&self, known: &[VmId]) -> Vec<QemuInstance>;

    /// Returns the short IDs of the VMs that have a directory of sockets; without a look at any process.
    async fn short_ids(&self) -> Vec<String>;

    /// Returns all QEMU instances, including those whose directory is gone; inspects every process.
    async fn instances(&self) -> Vec<QemuInstance>;

    /// Returns the files in maqet's directories; unfinished images are also searched for in the directories `beside`.
    ///
    /// List the VMs after this call, not before: then a file without a VM cannot belong to one added in between.
    async fn files(&self, beside: &[PathBuf]) -> Vec<StaleFile>;

    /// Removes a file: sockets with their directory, records with everything below, a temporary file.
    ///
    /// Errors: `RemoveError` if any of it remains.
    async fn remove(&self, file: &StaleFile) -> Result<(), RemoveError>;

    /// Returns the directory of a VM's records.
    fn records_of(&self, id: &VmId) -> PathBuf;
}
