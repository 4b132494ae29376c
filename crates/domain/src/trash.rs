//! The trash: images of removed VMs, with what is needed to define the VMs again.
//!
//! An entry holds the images of one VM, each moved by rename to a directory on its own file system. It describes itself,
//! in a file beside its images, so that it outlives the database.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::change::StorageRecord;
use crate::config::Node;
use crate::snapshot::SnapshotRecord;
use crate::text::checked_text;
use crate::vm::{Origins, Revision, Run, Vm, VmEntry, VmId, VmName};

/// The ID of an entry, which is also the name of its directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, DeserializeFromStr, SerializeDisplay)]
pub struct TrashId(String);

/// A text that is not a valid [`TrashId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid ID of a trash entry `{}`", value.escape_debug())]
#[expect(missing_docs, reason = "the message names the field")]
pub struct InvalidTrashId {
    pub value: String,
}

impl TrashId {
    /// Makes an ID from a new random ID.
    pub fn new(random: &VmId) -> Self {
        Self(random.short())
    }

    /// Checks a text: as many hexadecimal digits as the short form of an ID has.
    pub fn parse(text: &str) -> Result<Self, InvalidTrashId> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == VmId::SHORT_LEN && text.bytes().all(is_digit) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidTrashId { value: text.to_owned() })
    }
}

checked_text!(TrashId, InvalidTrashId);

/// An entry of the trash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrashEntry {
    /// Its ID.
    pub id: TrashId,
    /// When the VM was removed.
    pub removed_at: Timestamp,
    /// The VM.
    pub vm: TrashedVm,
    /// Its images.
    pub images: Vec<TrashedImage>,
    /// The records of its images that are not in the trash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage: Vec<StorageRecord>,
    /// The records of the snapshots in its images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<SnapshotRecord>,
    /// The new name of the VM, while it is restored under another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restoring: Option<VmName>,
}

/// A removed VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrashedVm {
    /// Its ID.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
    /// When it was defined.
    pub created_at: Timestamp,
    /// Its definition.
    pub definition: Node,
    /// The source locations of the definition's values.
    pub origins: Origins,
    /// Its last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
}

/// An image in the trash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrashedImage {
    /// Its record; the path is the one that it had.
    pub record: StorageRecord,
    /// Whether maqet chose that path, in the storage directory of the VM.
    pub is_default: bool,
    /// Where it is now.
    pub trash: PathBuf,
    /// Its inode, which a rename keeps.
    pub inode: u64,
    /// The space that it took on the host, in bytes.
    pub allocated_bytes: u64,
}

/// Where an image of an entry is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrashedImageLocation {
    /// In the trash.
    Trash,
    /// Where it was before: not moved yet, or restored already.
    Original,
    /// In neither place, as if its volume is not mounted.
    Missing,
}

impl TrashedVm {
    /// Returns the VM as it is defined again.
    pub fn restored(&self, name: &VmName) -> Vm {
        let entry = VmEntry {
            id: self.id,
            name: name.clone(),
            revision: Revision::FIRST,
            created_at: self.created_at,
            run: self.run.clone(),
            pending: None,
            layers: Vec::new(),
        };
        Vm { entry, definition: self.definition.clone(), origins: self.origins.clone() }
    }
}

impl From<&Vm> for TrashedVm {
    fn from(vm: &Vm) -> Self {
        Self {
            id: vm.entry.id,
            name: vm.entry.name.clone(),
            created_at: vm.entry.created_at,
            definition: vm.definition.clone(),
            origins: vm.origins.clone(),
            run: vm.entry.run.clone().map(Run::ended_by_removal),
        }
    }
}

impl TrashEntry {
    /// Returns the space that its images took on the host, in bytes.
    pub fn allocated_bytes(&self) -> u64 {
        self.images.iter().map(|image| image.allocated_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_trash_id_only_digits_of_a_short_id_are_valid() {
        assert!(TrashId::parse("0d9f2ac358b1").is_ok());
        for text in ["", "..", "0d9f2ac358b", "0D9F2AC358B1", "0d9f2ac358b1a", "../d9f2ac358"] {
            assert!(TrashId::parse(text).is_err(), "{text:?}");
        }
    }
}
