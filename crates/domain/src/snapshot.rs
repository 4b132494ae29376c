//! Internal snapshots of disk images.

mod fingerprint;
pub mod table;
pub mod tag;

pub use self::fingerprint::{Fingerprint, FingerprintDifference};

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_with::{DeserializeFromStr, SerializeDisplay};
use uuid::Uuid;

use crate::text::checked_text;
use crate::vm::VmId;

/// The name of a snapshot, unique in its drive.
///
/// QEMU allows names of up to 255 bytes (7.2, `QEMUSnapshotInfo`), a second snapshot of the same name while the VM is
/// off, and names of digits, which it then takes for ids; maqet refuses all of these, and the names that it uses itself
/// (see [`tag`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, DeserializeFromStr, SerializeDisplay)]
pub struct SnapshotName(String);

/// A text that is not a valid [`SnapshotName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid snapshot name `{}`: {reason}", value.escape_debug())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidSnapshotName {
    pub value: String,
    pub reason: &'static str,
}

impl SnapshotName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidSnapshotName> {
        let reason = match text {
            "" => "must not be empty",
            _ if text.len() > Self::MAX_LEN => "must not be longer than 128 bytes",
            _ if text.chars().any(char::is_control) => "must not contain control characters",
            _ if text.trim() != text => "must not start or end with white space",
            _ if text.starts_with('-') => "must not start with `-`, like an option",
            _ if text.ends_with(tag::SECOND) => "must not end with `~2`, which marks the successor of a snapshot",
            tag::BEFORE_LOAD => "is the name of the state before the last load",
            _ if is_number(text) => "must not be a number, which QEMU takes for the id of a snapshot",
            _ => return Ok(Self(text.to_owned())),
        };
        Err(InvalidSnapshotName { value: text.to_owned(), reason })
    }
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

checked_text!(SnapshotName, InvalidSnapshotName);

/// A snapshot as its image describes it.
///
/// Its name is not checked: other tools create names that [`SnapshotName`] refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSnapshot {
    /// QEMU's id for it inside the image.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was created, by the clock of that host.
    pub created_at: Timestamp,
    /// The size of its RAM and device state in bytes; 0 for a snapshot of the disk alone.
    pub vm_state_bytes: u64,
    /// How long the guest had run, in nanoseconds.
    pub vm_clock_nanos: u64,
}

/// What a snapshot holds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display, strum::EnumString, strum::IntoStaticStr
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum SnapshotKind {
    /// The content of the disk.
    Disk,
    /// The content of the disk and the state of the machine, in this drive or in another one of the set.
    Memory,
    /// The content of the disk, kept before another snapshot was loaded, so that the load can be taken back.
    Safety,
}

/// Identifies the snapshots of several drives that were created as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotSetId(Uuid);

impl SnapshotSetId {
    /// Makes an ID from a UUID.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl fmt::Display for SnapshotSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for SnapshotSetId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

/// What the store records of a snapshot: what its image cannot hold.
///
/// The snapshot table of the image is the truth. A record whose id and date differ from those in the image is of a
/// snapshot that another tool replaced, and is ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// The VM.
    pub vm: VmId,
    /// The drive.
    pub drive: String,
    /// The name of the snapshot inside the image.
    pub tag: String,
    /// Its name for users, which differs from the tag once it was replaced.
    pub name: String,
    /// Its id inside the image.
    pub image_id: String,
    /// Its date inside the image.
    pub image_date: Timestamp,
    /// The set of snapshots that it is part of.
    pub set: Option<SnapshotSetId>,
    /// What it holds.
    pub kind: SnapshotKind,
    /// The description, if one was given.
    pub description: Option<String>,
    /// What the machine has to be like for its state to be loaded, as JSON; `None` for a disk alone.
    pub fingerprint: Option<Value>,
    /// When it was created.
    pub created_at: Timestamp,
}

impl SnapshotRecord {
    /// Makes the record of a snapshot of a drive as its image describes it, of no set and without a description.
    pub fn of_image(
        vm: VmId,
        drive: impl Into<String>,
        name: impl Into<String>,
        snapshot: ImageSnapshot,
        kind: SnapshotKind,
        created_at: Timestamp,
    ) -> Self {
        Self {
            vm,
            drive: drive.into(),
            tag: snapshot.name,
            name: name.into(),
            image_id: snapshot.id,
            image_date: snapshot.created_at,
            set: None,
            kind,
            description: None,
            fingerprint: None,
            created_at,
        }
    }

    /// Returns whether this describes a snapshot of the image of its drive.
    pub fn is_of(&self, snapshot: &ImageSnapshot) -> bool {
        self.tag == snapshot.name && self.image_id == snapshot.id && self.image_date == snapshot.created_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_snapshot_name_usual_names_are_valid() {
        for name in ["clean", "before upgrade", "v1.2", "üml,aut", "2024-01-01"] {
            assert!(SnapshotName::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn test_snapshot_name_ambiguous_names_are_invalid() {
        for name in ["", "1", "042", "-x", " a", "a\n", "a\0b", &"x".repeat(129), "a~2", "before-load"] {
            assert!(SnapshotName::parse(name).is_err(), "{name:?}");
        }
    }
}
