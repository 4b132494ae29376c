//! Changes to the store, written atomically.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Node;
use crate::event::Event;
use crate::history::HistoryEntry;
use crate::size::ByteSize;
use crate::snapshot::SnapshotRecord;
use crate::storage::SharedFileId;
use crate::vm::{DriveLayers, Origins, Pending, Phase, Revision, Run, Vm, VmId, VmName};

/// One change to the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Adds a VM; its name and id must be free.
    VmAdded(Box<Vm>),
    /// Gives a VM of another user or host, with its storage records, to this one; its revision grows by one. Its name must
    /// be free here.
    VmTakenOver {
        /// The VM.
        id: VmId,
        /// The expected revision.
        expected: Revision,
        /// Its name.
        name: VmName,
        /// The host that has it.
        host: String,
        /// The user there.
        owner: String,
        /// Its last run, with the paths of this host.
        run: Option<Run>,
    },
    /// Removes a VM and its run; its storage records stay, without a VM.
    VmRemoved {
        /// The VM.
        id: VmId,
        /// The expected revision.
        expected: Revision,
    },
    /// Replaces the definition of a VM; its revision grows by one.
    DefinitionChanged {
        /// The VM.
        id: VmId,
        /// The expected revision.
        expected: Revision,
        /// The new definition.
        definition: Node,
        /// The source locations of its values.
        origins: Origins,
    },
    /// Replaces the run of a VM; its revision grows by one.
    RunChanged {
        /// The VM.
        id: VmId,
        /// The expected revision.
        expected: Revision,
        /// The new run; `None` for never started.
        run: Option<Run>,
    },
    /// Records that work on the images of a VM begins, goes on with another step, or is finished; its revision grows by
    /// one.
    PendingChanged {
        /// The VM.
        id: VmId,
        /// The expected revision.
        expected: Revision,
        /// The work; `None` once it is finished or rolled back.
        pending: Option<Box<Pending>>,
    },
    /// Replaces the layers of the drives of a VM; its revision grows by one.
    LayersChanged {
        /// The VM.
        id: VmId,
        /// The expected revision.
        expected: Revision,
        /// The layers.
        layers: Vec<DriveLayers>,
    },
    /// Adds the record of a snapshot, or replaces that of the same VM, drive and tag.
    SnapshotAdded(Box<SnapshotRecord>),
    /// Removes the record of a snapshot, if there is one.
    SnapshotRemoved {
        /// The VM.
        vm: VmId,
        /// The drive.
        drive: String,
        /// The name of the snapshot inside the image.
        tag: String,
    },
    /// Adds the record of an image, or replaces that of the same path.
    StorageAdded(StorageRecord),
    /// Removes the record of an image, if there is one.
    StorageRemoved {
        /// Where the image is.
        path: PathBuf,
    },
    /// Replaces what is recorded about the images that a VM uses. A store that is not shared need not keep it.
    ImagesUsed {
        /// The VM.
        vm: VmId,
        /// Its images.
        images: Vec<UsedImage>,
    },
}

/// An image that a VM used when it was started, for another host to recognize it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedImage {
    /// Its drive; `uefi-vars` for the UEFI variable store.
    pub drive: String,
    /// Where it is, as shown.
    pub path: String,
    /// Which file it is.
    pub file: SharedFileId,
}

/// The record of a disk image that maqet created or that a start found, to tell its own files from others, and an image
/// that is gone from one that a start has yet to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageRecord {
    /// Where the image is.
    pub path: PathBuf,
    /// The VM it was created for; `None` once that VM is removed.
    pub vm: Option<VmId>,
    /// The drive it was created for; `uefi-vars`, which no drive is named, for the UEFI variable store.
    pub drive: String,
    /// The storage type, as in `qcow2`; [`StorageRecord::USED`] for an image that existed before.
    pub kind: String,
    /// The size the guest sees, if the type has one.
    pub size: Option<ByteSize>,
    /// When it was created, or first found.
    pub created_at: Timestamp,
}

impl StorageRecord {
    /// The kind of an image that maqet did not create, and that it therefore never deletes.
    ///
    /// Its record replaces only that of a removed VM.
    pub const USED: &str = "used";

    /// Returns whether maqet created the image.
    #[must_use]
    pub fn is_created(&self) -> bool {
        self.kind != Self::USED
    }
}

/// Changes to commit together, with their history entry and events.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChangeSet {
    /// The changes, applied in order.
    pub changes: Vec<Change>,
    /// The history entry, if any.
    pub history: Option<HistoryEntry>,
    /// How many entries of the history are kept when one is written, of this user of this host where several share the
    /// store; `None` keeps all.
    ///
    /// A store may remove the oldest a few at a time, so that no commit takes long.
    pub history_limit: Option<u32>,
    /// The events.
    pub events: Vec<Event>,
}

impl ChangeSet {
    /// Adds a change.
    #[must_use]
    pub fn and(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    /// Returns whether this only marks runs as starting or stopping.
    ///
    /// Such a mark tells other processes what happens to a QEMU. A host that loses power has no QEMU any more, so that
    /// the mark may be lost with it.
    pub fn is_mark(&self) -> bool {
        let is_open = |run: &Run| matches!(run.phase, Phase::Starting | Phase::Stopping);
        let is_mark = |change: &Change| matches!(change, Change::RunChanged { run: Some(run), .. } if is_open(run));
        self.history.is_none() && self.events.is_empty() && self.changes.iter().all(is_mark)
    }

    /// Returns whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.history.is_none() && self.events.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::{BootNumber, RunEnd, RunPaths, StopReason};

    fn marking(phase: Phase) -> ChangeSet {
        let run = Run {
            boot: BootNumber(1),
            phase,
            process: None,
            started_at: Timestamp::UNIX_EPOCH,
            paths: RunPaths { sockets: "/s".into(), records: "/r".into() },
            forwards: Vec::new(),
        };
        let id = VmId::from_uuid(uuid::Uuid::from_u128(1));
        ChangeSet::default().and(Change::RunChanged { id, expected: Revision(1), run: Some(run) })
    }

    #[test]
    fn test_is_mark_of_a_start_or_stop_under_way_only() {
        let ended = RunEnd { reason: StopReason::HostQuit, at: None };

        assert!(marking(Phase::Starting).is_mark() && marking(Phase::Stopping).is_mark());
        assert!(!marking(Phase::Running).is_mark() && !marking(Phase::Ended(ended)).is_mark());
    }

    #[test]
    fn test_is_mark_together_with_something_else_is_false() {
        let mark = marking(Phase::Starting);
        let event = Event {
            at: Timestamp::UNIX_EPOCH,
            kind: "x".to_owned(),
            vm: None,
            vm_name: None,
            data: serde_json::Value::Null,
        };
        let with_event = ChangeSet { events: vec![event], ..mark.clone() };
        let id = VmId::from_uuid(uuid::Uuid::from_u128(1));

        assert!(!with_event.is_mark());
        assert!(!mark.and(Change::VmRemoved { id, expected: Revision(2) }).is_mark());
    }
}
