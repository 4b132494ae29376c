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
    /// Returns the change that writes the record as it was.
    pub fn change(&self) -> Change {
        match &self.record {
            Some(record) => Change::StorageAdded(record.clone()),
            None => Change::StorageRemoved { path: self.path.clone() },
        }
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
