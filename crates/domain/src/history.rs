//! The history of changes: who made them, and the calls that revert them.
//!
//! An [entry](HistoryEntry) holds a change as the call that made it, and the call that reverts it, its inverse. Nothing is
//! erased: an undo calls the inverse, and adds an entry that names the one that it [reverts](HistoryEntry::reverts), in
//! the same commit as what it changes; a redo reverts an undo in the same way. [`NextChange`] tells from the entries
//! which one is next. An inverse says what it [expects](Expected) to find, and refuses anything else.

mod expected;
mod next;

use std::convert::Infallible;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use strum::VariantArray;

pub use self::expected::{
    CopySource, DefinitionDigest, Expected, ExpectedImage, ExpectedSnapshot, SnapshotIdentity, Unexpected,
};
pub use self::next::{Direction, NextChange};
use crate::vm::{VmId, VmName};

/// How many entries are kept; the older ones are removed.
pub const MAX_ENTRIES: u32 = 10_000;

/// A call of an operation as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The operation's name, as in `snapshot.create`.
    pub operation: String,
    /// Its arguments, as JSON.
    pub arguments: Value,
}

/// The origin of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The user name.
    pub user: String,
    /// The host name.
    pub host: String,
    /// The process id.
    pub pid: u32,
}

/// What an entry is about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, strum::Display, strum::EnumString,
    strum::IntoStaticStr
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum EntryKind {
    /// A change, which an undo reverts.
    #[default]
    Work,
    /// A change that is neither undone nor in the way of an undo, as of backups and the trash.
    Note,
    /// An undo: it reverts a change.
    Undo,
    /// A redo: it reverts an undo.
    Redo,
}

/// Why a change cannot be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Irreversible {
    /// A snapshot was deleted.
    SnapshotDeleted,
    /// A snapshot was replaced by another one of its name.
    SnapshotReplaced,
    /// A load or a restore did not keep the state before.
    StateNotKept,
    /// A load replaced the memory of a running VM.
    MemoryReplaced,
    /// What was behind the new end of an image was deleted.
    DataCutOff,
    /// A running guest was given the space, and may use it.
    SpaceInUse,
    /// The old image was replaced or removed.
    ImageReplaced,
    /// A checkpoint was deleted.
    CheckpointDeleted,
    /// An earlier version of maqet recorded it.
    OlderVersion,
    /// Anything else.
    #[serde(other)]
    Unspecified,
}

impl Irreversible {
    /// Returns the reason, to be shown after "because".
    pub const fn reason(self) -> &'static str {
        match self {
            Self::SnapshotDeleted => "the snapshot is deleted",
            Self::SnapshotReplaced => "the old snapshot of this name is deleted",
            Self::StateNotKept => "the state before is not kept",
            Self::MemoryReplaced => "the memory of a running VM is replaced",
            Self::DataCutOff => "what is behind the new end of the image is deleted",
            Self::SpaceInUse => "a running guest can use the new space",
            Self::ImageReplaced => "the old image is deleted",
            Self::CheckpointDeleted => "the memory of the checkpoint is deleted",
            Self::OlderVersion => "an earlier version of maqet made the change",
            Self::Unspecified => "nothing reverts the change",
        }
    }
}

impl FromStr for Irreversible {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let known = Self::VARIANTS.iter().find(|reason| <&str>::from(**reason) == text);
        Ok(known.copied().unwrap_or(Self::Unspecified))
    }
}

/// A change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it was made.
    pub at: Timestamp,
    /// Who made it.
    pub actor: Actor,
    /// The VM that was changed.
    pub vm: Option<VmId>,
    /// The name of the VM at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_name: Option<VmName>,
    /// What the entry is about.
    #[serde(default)]
    pub kind: EntryKind,
    /// The call that made it, without the definition of a VM.
    pub call: Call,
    /// The call that reverts it, if there is one.
    pub inverse: Option<Call>,
    /// Why it cannot be undone, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub irreversible: Option<Irreversible>,
    /// The sequence number of the entry that this one reverts, as an undo does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts: Option<i64>,
}

/// A change in the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedHistory {
    /// Its number; increases with every entry of a store.
    pub sequence: i64,
    /// The entry.
    #[serde(flatten)]
    pub entry: HistoryEntry,
}

/// A VM whose entries are asked for: those of this ID, and those of this name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryVm {
    /// The ID.
    pub id: Option<VmId>,
    /// The name.
    pub name: Option<VmName>,
}

/// Which entries of the history to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryQuery {
    /// Only those before this number.
    pub before: Option<i64>,
    /// Only those about this VM.
    pub vm: Option<HistoryVm>,
    /// Only those that this user made on this host, in a store that several share.
    pub own: bool,
    /// At most this many, the newest of them.
    pub limit: u32,
}

impl HistoryQuery {
    /// Asks for the newest entries.
    pub const fn newest(limit: u32) -> Self {
        Self { before: None, vm: None, own: false, limit }
    }

    /// Returns whether it asks for an entry of a store that is not shared, whatever the limit.
    pub fn matches(&self, recorded: &RecordedHistory) -> bool {
        let RecordedHistory { sequence, entry } = recorded;
        let is_about =
            |vm: &HistoryVm| (vm.id.is_some() && vm.id == entry.vm) || (vm.name.is_some() && vm.name == entry.vm_name);
        self.before.is_none_or(|before| *sequence < before) && self.vm.as_ref().is_none_or(is_about)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_irreversible_unknown_reason_is_unspecified() {
        assert_eq!("image-replaced".parse(), Ok(Irreversible::ImageReplaced));
        assert_eq!("of-the-future".parse(), Ok(Irreversible::Unspecified));
        assert_eq!(serde_json::from_str::<Irreversible>("\"of-the-future\"").unwrap(), Irreversible::Unspecified);
    }
}
