//! Snapshots that live inside a disk image.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The name of a snapshot; unique in its drive.
///
/// QEMU keeps names of up to 255 bytes (7.2, `QEMUSnapshotInfo`), accepts a second snapshot of the
/// same name offline, and mistakes a name of digits for an id; all of that ends here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotName(String);

/// A text that cannot be a [`SnapshotName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("snapshot name `{}` is not usable: {why}", given.escape_debug())]
pub struct InvalidSnapshotName {
    /// What was given.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl SnapshotName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidSnapshotName> {
        let invalid = |why| Err(InvalidSnapshotName { given: text.to_owned(), why });
        if text.is_empty() {
            return invalid("it is empty");
        }
        if text.len() > Self::MAX_LEN {
            return invalid("it is longer than 128 bytes");
        }
        if text.chars().any(char::is_control) {
            return invalid("it holds a control character");
        }
        if text.trim() != text {
            return invalid("it begins or ends with white space");
        }
        if text.starts_with('-') {
            return invalid("it begins with `-`, which reads as an option");
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return invalid("it is only digits, which QEMU takes for a snapshot's id");
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SnapshotName {
    type Err = InvalidSnapshotName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for SnapshotName {
    type Error = InvalidSnapshotName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<SnapshotName> for String {
    fn from(name: SnapshotName) -> Self {
        name.0
    }
}

/// A snapshot as its image tells of it.
///
/// Names here are whatever the image holds, also ones we would refuse to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSnapshot {
    /// QEMU's number for it inside the image.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, by the clock of the host that made it.
    pub created_at: Timestamp,
    /// How many bytes of RAM and device state it holds; 0 for a snapshot of the disk alone.
    pub vm_state_bytes: u64,
    /// How long the guest had run, in nanoseconds.
    pub vm_clock_nanos: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_snapshot_name_usual_names_are_taken() {
        for name in ["clean", "before upgrade", "v1.2", "üml,aut", "2024-01-01"] {
            assert!(SnapshotName::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn test_snapshot_name_ambiguous_or_broken_is_refused() {
        for name in ["", "1", "042", "-x", " a", "a\n", "a\0b", &"x".repeat(129)] {
            assert!(SnapshotName::parse(name).is_err(), "{name:?}");
        }
    }
}
