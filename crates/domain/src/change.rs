//! What a commit writes: all of it or nothing.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Node;
use crate::event::Event;
use crate::history::HistoryEntry;
use crate::qemu::NodeName;
use crate::size::ByteSize;
use crate::vm::{Origins, Revision, Run, Vm, VmId};

/// One change to what is stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A VM that was not there; its name and id must be free.
    VmAdded(Box<Vm>),
    /// The VM goes, with its run; its storage records stay, without owner.
    VmRemoved {
        /// Which VM.
        id: VmId,
        /// The revision the caller saw.
        expected: Revision,
    },
    /// The VM's definition becomes this one; the revision grows by one.
    DefinitionChanged {
        /// Which VM.
        id: VmId,
        /// The revision the caller saw.
        expected: Revision,
        /// The definition from now on.
        definition: Node,
        /// Where its values came from.
        origins: Origins,
    },
    /// The VM's run becomes this one; the revision grows by one.
    RunChanged {
        /// Which VM.
        id: VmId,
        /// The revision the caller saw.
        expected: Revision,
        /// The run from now on; `None` takes a VM back to never started.
        run: Option<Run>,
    },
    /// An image that maqet made; recording the same path again replaces the record.
    StorageAdded(StorageRecord),
}

/// A disk image that maqet made, so that it knows later which files are its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageRecord {
    /// Where the image is.
    pub path: PathBuf,
    /// The VM it was made for; `None` once that VM was removed.
    pub vm: Option<VmId>,
    /// The drive it was made for.
    pub drive: NodeName,
    /// The storage type, as in `qcow2`.
    pub kind: String,
    /// The size the guest sees, where the type has one.
    pub size: Option<ByteSize>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Changes that belong together, with what is to be remembered of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChangeSet {
    /// The changes, applied in order.
    pub changes: Vec<Change>,
    /// The entry for the history, if the change is to appear there.
    pub history: Option<HistoryEntry>,
    /// What to tell of it.
    pub events: Vec<Event>,
}

impl ChangeSet {
    /// Adds a change.
    #[must_use]
    pub fn and(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Returns whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.history.is_none() && self.events.is_empty()
    }
}
