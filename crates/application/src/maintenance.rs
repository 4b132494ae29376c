//! The health of a host, of the database, of the VMs and of what lies around: findings and their cures.

mod database;
mod host;
mod removal;
mod stale_files;
mod vm;

use std::sync::Arc;

use maqet_domain::error::Explain;
use maqet_domain::port::{Probe, StaleFiles, StoreMaintenance, VmCopies};
use serde::Serialize;

pub(crate) use self::database::Access;
pub(crate) use self::stale_files::{Leftover, survey, what_of, what_of_orphan};

/// The ports that serve maqet's own upkeep.
#[derive(Clone)]
pub struct Maintenance {
    /// Looks after the database.
    pub care: Arc<dyn StoreMaintenance>,
    /// Keeps copies of VMs outside of it.
    pub copies: Arc<dyn VmCopies>,
    /// Looks through maqet's folders.
    pub stale_files: Arc<dyn StaleFiles>,
    /// Looks at the host closely.
    pub probe: Arc<dyn Probe>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// All is well.
    Ok,
    /// Worth knowing.
    Note,
    /// It will be in the way some day.
    Warning,
    /// Something does not work.
    Problem,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// The host: abilities, tools, folders, limits.
    Host,
    /// The database.
    Database,
    /// A VM.
    Vm,
    /// What nobody needs any more.
    StaleFiles,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub area: Area,
    /// What it is about, by name: a VM, a folder, a tool.
    pub subject: String,
    /// What was found.
    pub what: String,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
    /// Whether `--fix` does it.
    pub fixable: bool,
    /// What `--fix` did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<String>,
}

impl Finding {
    pub(crate) fn new(severity: Severity, area: Area, subject: impl Into<String>, what: impl Into<String>) -> Self {
        let (subject, what) = (subject.into(), what.into());
        Self { severity, area, subject, what, cure: None, fixable: false, fixed: None }
    }

    /// Makes the finding of an error, whose first hint is the cure.
    pub(crate) fn of_error(severity: Severity, area: Area, subject: impl Into<String>, error: &dyn Explain) -> Self {
        let finding = Self::new(severity, area, subject, in_full(error));
        Self { cure: error.hints().into_iter().next(), ..finding }
    }

    #[must_use]
    pub(crate) fn cured_by(self, cure: impl Into<String>) -> Self {
        Self { cure: Some(cure.into()), ..self }
    }

    #[must_use]
    pub(crate) fn fixable(self) -> Self {
        Self { fixable: true, ..self }
    }

    #[must_use]
    pub(crate) fn fixed(self, done: impl Into<String>) -> Self {
        Self { fixed: Some(done.into()), ..self }
    }

    /// Adds why a fix was tried in vain.
    #[must_use]
    pub(crate) fn not_fixed(self, error: &dyn std::error::Error) -> Self {
        Self { what: format!("{}; the fix failed: {}", self.what, in_full(error)), ..self }
    }

    /// Returns whether it is a problem that is still there.
    pub fn is_left(&self) -> bool {
        self.severity == Severity::Problem && self.fixed.is_none()
    }
}

/// Returns an error and its causes on one line.
pub(crate) fn in_full(error: &(impl std::error::Error + ?Sized)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
