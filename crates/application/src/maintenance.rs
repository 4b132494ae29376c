//! Maintenance: the checks and repairs of `doctor`, and what `cleanup` removes.
//!
//! | module | checks |
//! | --- | --- |
//! | `binaries` | the versions of the QEMU binaries in use |
//! | `host` | KVM, tools, limits, maqet's directories and their free space |
//! | `database` | the database and its backups; repairs a damaged one |
//! | `hosts` | other hosts that share the database and are away |
//! | `missing` | VMs of which there are copies, and that the database lacks |
//! | `vm` | whether each VM can start, and whether its records agree with what runs |
//! | `vm_files` | whether a start can use the files of a VM besides its drives |
//! | `stale_files` | files and processes that belong to no VM |
//! | `trash` | what killed processes left in the trash |
//! | `removal` | removes a stale file under the lock of its VM |

mod binaries;
mod database;
mod host;
mod hosts;
mod missing;
mod removal;
mod stale_files;
mod trash;
mod vm;
mod vm_files;

use std::sync::Arc;

use maqet_domain::error::Explain;
use maqet_domain::port::{Probe, StaleFiles, StoreMaintenance, VmCopies};
use serde::Serialize;

pub(crate) use self::binaries::BinaryCheck;
pub(crate) use self::database::{DatabaseAccess, DatabaseCheck};
pub(crate) use self::host::HostCheck;
pub(crate) use self::hosts::host_findings;
pub(crate) use self::removal::StaleFileRemoval;
pub(crate) use self::stale_files::{StaleItem, Survey, describe_file, describe_orphan, stale_findings};
pub(crate) use self::trash::{interrupted, trash_findings};
pub(crate) use self::vm::{VmCheck, close_run};

/// The ports that only `doctor` and `cleanup` use, and copies of VMs.
#[derive(Clone)]
pub struct Maintenance {
    /// Checks, backs up and repairs the database.
    pub store: Arc<dyn StoreMaintenance>,
    /// Keeps copies of VMs outside of the database.
    pub copies: Arc<dyn VmCopies>,
    /// Searches maqet's folders and processes.
    pub stale_files: Arc<dyn StaleFiles>,
    /// Measures the host.
    pub probe: Arc<dyn Probe>,
}

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// In order.
    Ok,
    /// Worth knowing.
    Note,
    /// Likely to cause a problem later.
    Warning,
    /// Something does not work.
    Problem,
}

/// The area of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// The host: tools, folders, limits.
    Host,
    /// The database.
    Database,
    /// A VM.
    Vm,
    /// Files and processes that belong to no VM.
    StaleFiles,
}

/// A result of one check.
#[serde_with::skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// How serious it is.
    pub severity: Severity,
    /// The area that was checked.
    pub area: Area,
    /// The VM, folder or tool that was checked.
    pub subject: String,
    /// The result.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
    /// Whether `--fix` fixes it.
    pub fixable: bool,
    /// What `--fix` did.
    pub fixed: Option<String>,
}

impl Finding {
    pub(crate) fn new(severity: Severity, area: Area, subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity,
            area,
            subject: subject.into(),
            message: message.into(),
            hint: None,
            fixable: false,
            fixed: None,
        }
    }

    /// Makes a finding of an error, with its first hint.
    pub(crate) fn from_error(severity: Severity, area: Area, subject: impl Into<String>, error: &dyn Explain) -> Self {
        let finding = Self::new(severity, area, subject, error_chain(error));
        Self { hint: error.explain().hints.into_iter().next(), ..finding }
    }

    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    #[must_use]
    pub(crate) fn fixable(self) -> Self {
        Self { fixable: true, ..self }
    }

    #[must_use]
    pub(crate) fn fixed(self, done: impl Into<String>) -> Self {
        Self { fixed: Some(done.into()), ..self }
    }

    /// Adds why the fix failed.
    #[must_use]
    pub(crate) fn fix_failed(self, error: &dyn std::error::Error) -> Self {
        Self { message: format!("{}; the fix failed: {}", self.message, error_chain(error)), ..self }
    }

    /// Returns whether it is a problem that was not fixed.
    pub fn is_open_problem(&self) -> bool {
        self.severity == Severity::Problem && self.fixed.is_none()
    }
}

/// Returns a number of VMs, as in `1 VM` or `2 VMs`.
pub(crate) fn count_vms(count: u64) -> String {
    if count == 1 { "1 VM".to_owned() } else { format!("{count} VMs") }
}

/// Returns an error and its causes on one line.
pub(crate) fn error_chain(error: &(impl std::error::Error + ?Sized)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
