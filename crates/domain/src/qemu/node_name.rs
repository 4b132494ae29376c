//! Names of drives and network cards.

use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::text::checked_text;

/// The prefix of the backends that maqet creates for hot-plugged devices; the id of the device follows.
///
/// No drive or card of a definition may have such a name.
pub const HOTPLUG_PREFIX: &str = "hotplug-";

/// The prefix of the block nodes of images that a backup is written to; a number follows.
///
/// No drive of a definition may have such a name.
pub const BACKUP_PREFIX: &str = "maqet-backup-";

/// The prefix of the drives that limit what is requested of a block node; its name follows.
///
/// No drive of a definition may have such a name.
pub const LIMITS_PREFIX: &str = "maqet-limits-";

/// The prefix of the block nodes of the layers of drives; a number and a position follow.
///
/// No drive of a definition may have such a name.
pub const LAYER_PREFIX: &str = "maqet-layer-";

/// Returns the name of the block node of a layer.
pub fn layer_node(number: u32, position: usize) -> String {
    format!("{LAYER_PREFIX}{number}-{position}")
}

/// The name of a drive or network card, unique in its VM; also the id of its block node or network backend in QEMU.
///
/// QEMU's node names have at most 31 bytes and start with a letter (`id_wellformed`, 7.2); five are reserved for the
/// suffix of the node underneath. `all` means every drive and is not a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, DeserializeFromStr, SerializeDisplay)]
pub struct NodeName(String);

/// Prefixes of names that maqet gives to firmware, hot-plugged backends, images of backups, limited drives and layers.
const RESERVED_PREFIXES: [&str; 5] = ["uefi-", HOTPLUG_PREFIX, BACKUP_PREFIX, LIMITS_PREFIX, LAYER_PREFIX];

/// Suffixes of names that maqet gives to block nodes and devices of a drive or card.
const RESERVED_SUFFIXES: [&str; 2] = ["-file", "-card"];

/// Names of the optional devices of maqet, after their prefix `maqet-`; numbers follow that of USB.
const RESERVED_DEVICES: [&str; 8] = ["rng", "vmgenid", "balloon", "watchdog", "panic", "sound", "sound-codec", "usb"];

/// A text that is not a valid [`NodeName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid name `{}`: {reason}", value.escape_debug())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidNodeName {
    pub value: String,
    pub reason: &'static str,
}

impl NodeName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 26;

    /// The name of the state of the TPM, for records and lists of images.
    pub const TPM_STATE: &str = "tpm-state";

    /// The names of controllers, which are devices too.
    pub(crate) const CONTROLLERS: [&str; 2] = ["scsi", "sata"];

    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidNodeName> {
        let is_reserved = Self::CONTROLLERS.contains(&text)
            || text == Self::TPM_STATE
            || text.strip_prefix("maqet-").is_some_and(is_optional_device)
            || RESERVED_SUFFIXES.iter().any(|suffix| text.ends_with(suffix))
            || RESERVED_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        let reason = match text {
            "all" => "`all` means every drive",
            _ if is_reserved => "reserved by maqet",
            _ if text.len() > Self::MAX_LEN => "must not be longer than 26 bytes",
            _ if !starts_with_letter(text) => "must start with a letter (a to z)",
            _ if !is_id(text) => "may contain a to z, digits and - _ . only",
            _ => return Ok(Self(text.to_owned())),
        };
        Err(InvalidNodeName { value: text.chars().take(80).collect(), reason })
    }

    /// Returns the name of the block node that accesses the file.
    pub fn file_node(&self) -> String {
        format!("{}-file", self.0)
    }

    /// Returns the ID of the drive that limits what is requested of the block node.
    pub fn limited_drive(&self) -> String {
        format!("{LIMITS_PREFIX}{}", self.0)
    }
}

fn is_optional_device(name: &str) -> bool {
    RESERVED_DEVICES.contains(&name.trim_end_matches(|c: char| c.is_ascii_digit()))
}

/// Returns whether a text starts as QEMU's ids do (`id_wellformed`, 7.2).
pub(crate) fn starts_with_letter(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// Returns whether a text has only the characters of QEMU's ids (`id_wellformed`, 7.2).
pub(crate) fn is_id(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

checked_text!(NodeName, InvalidNodeName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_node_name_usual_names_are_valid() {
        let longest = "x".repeat(NodeName::MAX_LEN);
        for name in ["hdd", "root", "data-1", "a.b_c", "rng", "usb", "maqet-data", &longest] {
            let valid = NodeName::parse(name).unwrap();
            assert_eq!(serde_json::to_string(&valid).unwrap(), format!("\"{name}\""));
        }
    }

    #[test]
    fn test_node_name_reserved_or_malformed_is_invalid() {
        let long = "x".repeat(27);
        for name in [
            "", "all", "1st", "scsi", "a-file", "uefi-vars", "tpm-state", "hotplug-a", "maqet-backup-0",
            "maqet-limits-a", "maqet-rng", "maqet-usb", "maqet-usb12", "a b", "a,b", "ä", &long, "a/b",
        ] {
            assert!(NodeName::parse(name).is_err(), "{name:?}");
        }
    }
}
