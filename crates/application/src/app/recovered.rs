//! The result of recovering work whose process died.

use maqet_domain::change::Change;
use maqet_domain::vm::VmEntry;

/// How work was recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum RecoveryOutcome {
    /// All its steps are done.
    Finished,
    /// All is as it was before.
    RolledBack,
}

/// Work that was recovered, and what is to be written.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The VM, as it was last written.
    pub(crate) entry: VmEntry,
    pub(crate) outcome: RecoveryOutcome,
    /// Changes that leave the revision of the VM as it is, such as those of records.
    pub(crate) changes: Vec<Change>,
}

impl Recovered {
    /// Makes the result of work that is complete now.
    pub(crate) fn finished(entry: &VmEntry) -> Self {
        Self { entry: entry.clone(), outcome: RecoveryOutcome::Finished, changes: Vec::new() }
    }

    /// Makes the result of work that left nothing behind.
    pub(crate) fn rolled_back(entry: &VmEntry) -> Self {
        Self { outcome: RecoveryOutcome::RolledBack, ..Self::finished(entry) }
    }
}
