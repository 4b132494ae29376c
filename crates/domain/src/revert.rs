//! What a call has in addition if it reverts a change.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::change::{Change, StorageRecord};
use crate::config::Node;
use crate::history::{Call, Direction, Expected, ExpectedSnapshot};
use crate::snapshot::SnapshotRecord;
use crate::vm::{Origins, Run, VmId, VmName};

/// What a call has in addition if it reverts a change: what it expects to find, and what it writes as it was.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revert {
    /// The entry of the history that it reverts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<RevertedEntry>,
    /// What it expects to find.
    #[serde(default)]
    pub expected: Expected,
    /// The definition before the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<StoredDefinition>,
    /// The records of images before the change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<RevertedRecord>,
    /// The VM before it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Box<RemovedVm>>,
    /// The snapshots that the change created, of which some may be removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created: Vec<ExpectedSnapshot>,
    /// The call that makes the change again, where that is not found out while it is reverted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Box<Call>>,
}

/// An entry of the history that is reverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevertedEntry {
    /// Its number.
    pub sequence: i64,
    /// Whether it is a change that is undone, or an undo that is taken back.
    pub direction: Direction,
}

impl Revert {
    /// Expects this, and writes nothing as it was.
    pub fn new(expected: Expected) -> Self {
        Self { expected, ..Self::default() }
    }
}

/// A definition with the source locations of its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredDefinition {
    /// The definition.
    pub definition: Node,
    /// The source locations.
    pub origins: Origins,
}

/// The record of an image as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevertedRecord {
    /// Where the image is.
    pub path: PathBuf,
    /// The record; `None` if there was none.
    pub record: Option<StorageRecord>,
}

impl RevertedRecord {
    /// Returns the changes that write the record as it was before a change of the VM `vm`, if it is `now`.
    ///
    /// The record of an image that another VM has taken over stays. One of a VM for which `is_gone` has no VM any more, as
    /// if it had existed when that VM was removed.
    pub fn change(&self, vm: VmId, now: Option<&StorageRecord>, is_gone: impl Fn(VmId) -> bool) -> Vec<Change> {
        if now.and_then(|record| record.vm).is_some_and(|owner| owner != vm) {
            return Vec::new();
        }
        // First, as an image that was only used does not replace a record.
        let removal = Change::StorageRemoved { path: self.path.clone() };
        let before = self.record.as_ref().map(|record| {
            Change::StorageAdded(StorageRecord { vm: record.vm.filter(|vm| !is_gone(*vm)), ..record.clone() })
        });
        [removal].into_iter().chain(before).collect()
    }
}

/// A VM that was removed, and whose images were kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovedVm {
    /// Its ID.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
    /// When it was defined.
    pub created_at: Timestamp,
    /// Its last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// The records of its images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage: Vec<StorageRecord>,
    /// The records of its snapshots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<SnapshotRecord>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> VmId {
        VmId::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn record(vm: Option<VmId>) -> StorageRecord {
        StorageRecord {
            path: "/d/a".into(),
            vm,
            drive: "hdd".to_owned(),
            kind: "raw".to_owned(),
            size: None,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn test_reverted_record_of_another_vm_by_now_stays() {
        let (web, db) = (id(1), id(2));
        for before in [None, Some(record(None)), Some(record(Some(db)))] {
            let reverted = RevertedRecord { path: "/d/a".into(), record: before };

            assert_eq!(reverted.change(web, Some(&record(Some(db))), |_| false), []);
        }
    }

    #[test]
    fn test_reverted_record_is_written_as_it_was() {
        let (web, db) = (id(1), id(2));
        for now in [None, Some(record(None)), Some(record(Some(web)))] {
            let change = |before| {
                let reverted = RevertedRecord { path: "/d/a".into(), record: before };
                reverted.change(web, now.as_ref(), |vm| vm == id(3))
            };

            let removal = || Change::StorageRemoved { path: "/d/a".into() };
            assert_eq!(change(None), [removal()]);
            assert_eq!(change(Some(record(Some(db)))), [removal(), Change::StorageAdded(record(Some(db)))]);
            assert_eq!(change(Some(record(Some(id(3))))), [removal(), Change::StorageAdded(record(None))]);
        }
    }
}
