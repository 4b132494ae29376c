//! A VM: its name and id, what is stored about it, and the state it is in.

mod id;
mod name;
mod run;
mod status;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::id::{InvalidVmId, VmId};
pub use self::name::{InvalidVmName, VmName};
pub use self::run::{BootId, BootNumber, Ending, MonitorRole, Phase, ProcessIdentity, Run, RunPaths, StopReason};
pub use self::status::{Action, InvalidTransition, MonitorAnswer, ProcessObservation, Shutdown, Status, Transition};

use crate::config::Node;

/// Counts the changes of a stored VM; every write names the one it expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision of a VM that was just added.
    pub const FIRST: Self = Self(1);

    /// Returns the revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// All that is stored about a VM.
#[derive(Debug, Clone, PartialEq)]
pub struct Vm {
    /// What a list needs.
    pub entry: VmEntry,
    /// The definition: files and flags merged, before defaults.
    pub definition: Node,
    /// Where each value of the definition came from, as `memory` → `web.yaml:2:9`.
    pub origins: Origins,
}

/// Where values of a definition came from: the path of the key, and the place as a text.
pub type Origins = BTreeMap<String, String>;

/// What a list of VMs needs to know of each, cheap to read by the thousand.
#[derive(Debug, Clone, PartialEq)]
pub struct VmEntry {
    /// Never changes.
    pub id: VmId,
    /// Unique in a store.
    pub name: VmName,
    /// Grows with every change.
    pub revision: Revision,
    /// When it was defined.
    pub created_at: Timestamp,
    /// The last start and what came of it; `None` before the first.
    pub run: Option<Run>,
}
