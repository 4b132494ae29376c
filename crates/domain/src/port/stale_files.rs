//! What lies in maqet's folders, whoever it belongs to.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::{Cause, Explain, Fault};
use crate::vm::{BootNumber, ProcessIdentity, RunPaths, VmId};

/// A QEMU that lives and has its sockets in the runtime folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuInstance {
    /// Its process.
    pub process: ProcessIdentity,
    /// The folder of its VM, by name: the short form of an id.
    pub short: String,
    /// The VM's id, as the process was told it.
    pub id: Option<VmId>,
    /// The VM's name, as the process was told it.
    pub name: Option<String>,
    /// Which start of its VM it is.
    pub boot: BootNumber,
    /// When it was started, as near as its files tell.
    pub started_at: Timestamp,
    /// Where its files are.
    pub paths: RunPaths,
    /// Whether a VM of another database, which is there, owns it.
    pub is_foreign: bool,
}

/// What a trace is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StaleFileKind {
    /// The sockets of one start of a VM.
    Sockets {
        /// The VM's folder: the short form of its id.
        short: String,
        /// Which start.
        boot: BootNumber,
    },
    /// The records of a VM: logs, and the copy of its definition.
    Records {
        /// Which VM.
        id: VmId,
        /// The starts that left records, each with the moment its records were begun.
        boots: Vec<(BootNumber, Timestamp)>,
    },
    /// The lock of a VM.
    Lock {
        /// Which VM.
        id: VmId,
    },
    /// A file that was to become another one, and whose maker is dead.
    Temporary,
}

/// Something in maqet's folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleFile {
    /// What it is of.
    pub kind: StaleFileKind,
    /// Where it is.
    pub path: PathBuf,
    /// Whether a VM of another database, which is there, owns it.
    pub is_foreign: bool,
}

/// Why something could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("`{}` could not be removed", path.display())]
pub struct RemoveError {
    /// What stays.
    pub path: PathBuf,
    /// Why.
    pub source: Cause,
}

impl Explain for RemoveError {
    fn code(&self) -> &'static str {
        "host.remove"
    }

    fn fault(&self) -> Fault {
        Fault::Host
    }

    fn hints(&self) -> Vec<String> {
        vec!["look at the owner and the permissions of its folder".to_owned()]
    }
}

/// Looks through maqet's folders and the processes of this user.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait StaleFiles: Send + Sync {
    /// Returns the machines whose folder belongs to none of the VMs `known`; cheap where there is no such folder.
    async fn orphans(&self, known: &[VmId]) -> Vec<QemuInstance>;

    /// Returns all machines of the runtime folder, also those whose folder is gone: looks at every process.
    async fn machines(&self) -> Vec<QemuInstance>;

    /// Returns what lies in the folders; unfinished images are also looked for in the folders `beside`.
    ///
    /// Ask for the VMs only afterwards: what was there before a VM was looked for and not found, is nobody's.
    async fn traces(&self, beside: &[PathBuf]) -> Vec<StaleFile>;

    /// Removes what a trace is of: sockets with their folder, records with all below, a temporary file.
    ///
    /// Errors: `RemoveError` when something of it stays.
    async fn remove(&self, trace: &StaleFile) -> Result<(), RemoveError>;

    /// Returns the folder of a VM's records.
    fn records_of(&self, id: &VmId) -> PathBuf;

    /// Returns whether `path` is a file that can be read.
    async fn is_readable(&self, path: &Path) -> bool;
}
