//! The id of a VM.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a VM: a random UUID, also the one its guest sees.
///
/// Random (version 4) rather than time-ordered, because people abbreviate ids: two VMs made in the
/// same minute share the first eight digits of a version 7 UUID and hardly ever one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VmId(Uuid);

/// A text that is no [`VmId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not the id of a VM")]
pub struct InvalidVmId {
    /// What was given.
    pub given: String,
}

impl VmId {
    /// Makes an id of a UUID.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Returns its 16 bytes.
    pub fn bytes(&self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// Returns the first 12 digits: unique in practice, short enough for the path of a socket.
    pub fn short(&self) -> String {
        let mut digits = self.0.simple().to_string();
        digits.truncate(12);
        digits
    }

    /// Returns whether `text` could be the beginning of an id: at least four digits or hyphens.
    pub fn could_begin_with(text: &str) -> bool {
        (4..=36).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for VmId {
    type Err = InvalidVmId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidVmId { given: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_vm_id_short_form_begins_the_long_one() {
        let id: VmId = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap();

        assert_eq!(id.short(), "0d9f2ac358b1");
        assert_eq!(id.to_string(), "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11");
    }

    #[test]
    fn test_vm_id_prefix_of_three_digits_is_too_short() {
        assert!(!VmId::could_begin_with("0d9"));
        assert!(VmId::could_begin_with("0d9f"));
        assert!(!VmId::could_begin_with("web1"));
    }
}
