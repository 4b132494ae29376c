//! A VM: its name, id, definition, runs and state.

mod clock;
mod ending;
mod guest_end;
mod id;
mod layers;
mod name;
mod pending;
mod reason;
mod resets;
mod run;
mod status;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::clock::StoppedTime;
pub use self::ending::{ExitEvidence, ExitReport, KernelReport, explain_halt, failed_disk};
pub use self::id::{InvalidVmId, VmId};
pub use self::layers::{DriveLayers, layers_of, with_layer, without_top};
pub use self::name::{EPHEMERAL_LABEL, FORK_LABEL, InvalidVmName, THROW_AWAY_LABEL, VmName};
pub use self::pending::{
    CheckpointWork, DroppedLayer, ImageTag, LoadGuest, MergedLayer, NewLayer, Pending, PendingWork, ReplacedImage,
    ReplacedVariables, RestoreWork, UpgradeWork,
};
pub use self::reason::{HaltReason, StateDetails, StateReason, StopReason};
pub use self::resets::ResetCounter;
pub use self::run::{
    BootId, BootNumber, MonitorRole, Phase, PidNamespace, ProcessIdentity, QemuProcess, Run, RunEnd, RunPaths,
};
pub use self::status::{Action, InvalidTransition, MonitorAnswer, ProcessObservation, Status, Transition};

use crate::config::Node;

/// The revision of a stored VM; every write names the revision it expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision of a new VM.
    pub const FIRST: Self = Self(1);

    /// Returns the next revision.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A VM as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Vm {
    /// Name, id and state.
    pub entry: VmEntry,
    /// The definition: merged files and flags, without defaults.
    pub definition: Node,
    /// The source location of each value of the definition, as in `memory` → `web.yaml:2:9`.
    pub origins: Origins,
}

/// Source locations of a definition's values: from the path of the key to the location as text.
pub type Origins = BTreeMap<String, String>;

/// The part of a VM that lists need; cheap to read for thousands of VMs.
#[derive(Debug, Clone, PartialEq)]
pub struct VmEntry {
    /// Its id, which never changes.
    pub id: VmId,
    /// Its name, unique in a store.
    pub name: VmName,
    /// Grows by one with every change.
    pub revision: Revision,
    /// When it was defined.
    pub created_at: Timestamp,
    /// The last run; `None` if it was never started.
    pub run: Option<Run>,
    /// Work on its images that was begun and is not finished.
    pub pending: Option<Box<Pending>>,
    /// The layers of its drives, above the images of the definition; only of drives that have any.
    pub layers: Vec<DriveLayers>,
}

impl VmEntry {
    /// Returns the last run unless its end is recorded: its process may be alive.
    pub fn open_run(&self) -> Option<&Run> {
        self.run.as_ref().filter(|run| !matches!(run.phase, Phase::Ended(_)))
    }
}
