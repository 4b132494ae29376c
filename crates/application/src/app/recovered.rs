//! The result of recovering work whose process died.

use maqet_domain::change::Change;
use maqet_domain::vm::{LoadGuest, VmEntry};

/// How work was recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum RecoveryOutcome {
    /// All its steps are done.
    Finished,
    /// All is as it was before.
    RolledBack,
}

/// What is done after a recovery was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FollowUp {
    /// Nothing.
    None,
    /// The guest runs, or stays paused, and QEMU forgets the load that succeeded. Not before: another recovery would take
    /// the load back, and revert what the guest wrote since.
    EndLoad(LoadGuest),
}

/// Work that was recovered, and what is to be written.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The VM, as it was last written.
    pub(crate) entry: VmEntry,
    pub(crate) outcome: RecoveryOutcome,
    /// Changes that leave the revision of the VM as it is, such as those of records.
    pub(crate) changes: Vec<Change>,
    /// What follows once they are written.
    pub(crate) follow_up: FollowUp,
}

impl Recovered {
    /// Makes the result of work that is complete now.
    pub(crate) fn finished(entry: &VmEntry) -> Self {
        Self {
            entry: entry.clone(),
            outcome: RecoveryOutcome::Finished,
            changes: Vec::new(),
            follow_up: FollowUp::None,
        }
    }

    /// Makes the result of work that left nothing behind.
    pub(crate) fn rolled_back(entry: &VmEntry) -> Self {
        Self { outcome: RecoveryOutcome::RolledBack, ..Self::finished(entry) }
    }
}
