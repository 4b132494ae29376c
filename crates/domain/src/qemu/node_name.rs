//! The name of a drive.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The names of back ends that maqet made for a device begin so; the id of the device follows.
///
/// No drive and no card of a definition may be called so.
pub const HOTPLUG_PREFIX: &str = "hotplug-";

/// The name of a drive; unique in its VM, and the name of its block node in QEMU.
///
/// QEMU's node names hold at most 31 bytes and begin with a letter (`id_wellformed`, 7.2); five are
/// kept for the suffix of the node underneath. `all` means every drive and names none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// Beginnings of the names of firmware, and of what was plugged in while the machine ran.
const RESERVED_BEGINNINGS: [&str; 2] = ["uefi-", HOTPLUG_PREFIX];

/// Ends of the names of block nodes and devices that belong to a drive or card.
const RESERVED_ENDS: [&str; 2] = ["-file", "-card"];

/// A text that cannot be a [`NodeName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("drive name `{}` is not usable: {why}", given.escape_debug())]
pub struct InvalidNodeName {
    /// What was given.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl NodeName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 26;

    /// Names of controllers, which are devices too.
    pub(crate) const CONTROLLERS: [&str; 2] = ["scsi", "sata"];

    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidNodeName> {
        let invalid = |why| Err(InvalidNodeName { given: text.chars().take(80).collect(), why });
        if text == "all" {
            return invalid("`all` means every drive");
        }
        if Self::CONTROLLERS.contains(&text)
            || RESERVED_ENDS.iter().any(|end| text.ends_with(end))
            || RESERVED_BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
        {
            return invalid("maqet gives this name to parts of its own");
        }
        if text.len() > Self::MAX_LEN {
            return invalid("it is longer than 26 bytes");
        }
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return invalid("it begins with a letter (a to z)");
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return invalid("it may hold a to z, digits and - _ . only");
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the block node that reads and writes the file.
    pub fn file_node(&self) -> String {
        format!("{}-file", self.0)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeName {
    type Err = InvalidNodeName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for NodeName {
    type Error = InvalidNodeName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_drive_name_that_qemu_takes_is_taken() {
        let most = "x".repeat(NodeName::MAX_LEN);
        for name in ["hdd", "root", "data-1", "a.b_c", &most] {
            let taken = NodeName::parse(name).unwrap();
            assert_eq!(serde_json::to_string(&taken).unwrap(), format!("\"{name}\""));
        }
    }

    #[test]
    fn test_drive_name_that_qemu_refuses_is_refused() {
        let long = "x".repeat(27);
        for name in ["", "all", "1st", "scsi", "a-file", "uefi-vars", "hotplug-a", "a b", "a,b", "ä", &long, "a/b"] {
            assert!(NodeName::parse(name).is_err(), "{name:?}");
        }
    }
}
