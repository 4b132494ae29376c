//! Internal snapshots of disk images.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::text::checked_text;

/// The name of a snapshot, unique in its drive.
///
/// QEMU allows names of up to 255 bytes (7.2, `QEMUSnapshotInfo`), a second snapshot of the same name while the VM is
/// off, and names of digits, which it then takes for ids; maqet refuses all of these.
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
        for name in ["", "1", "042", "-x", " a", "a\n", "a\0b", &"x".repeat(129)] {
            assert!(SnapshotName::parse(name).is_err(), "{name:?}");
        }
    }
}
