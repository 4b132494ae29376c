//! The id of a VM.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a VM: a random UUID, which is also the UUID of the guest.
///
/// Random (version 4) rather than time-ordered, because ids are abbreviated: two VMs created in the same minute share
/// the first eight digits of a version 7 UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VmId(Uuid);

/// A text that is not a valid [`VmId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid VM ID `{value}`")]
#[expect(missing_docs, reason = "the message names the field")]
pub struct InvalidVmId {
    pub value: String,
}

impl VmId {
    /// The number of digits of the short form.
    pub const SHORT_LEN: usize = 12;

    /// Makes an id from a UUID.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// Returns its 16 bytes.
    pub fn bytes(&self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// Returns the first [`SHORT_LEN`](Self::SHORT_LEN) digits: unique in practice, and short enough for socket paths.
    pub fn short(&self) -> String {
        let mut digits = self.0.simple().to_string();
        digits.truncate(Self::SHORT_LEN);
        digits
    }

    /// Returns the first and the last id that begin with `prefix`, which is hyphenated throughout or not at all; `None` if
    /// no id begins with it.
    pub fn range_of_prefix(prefix: &str) -> Option<(Self, Self)> {
        const DIGITS: usize = 32;
        const HYPHENS: [usize; 4] = [8, 13, 18, 23];

        let hyphenated = prefix.contains('-');
        let is_valid = |(at, byte): (usize, u8)| match byte {
            b'-' => HYPHENS.contains(&at),
            _ => byte.is_ascii_hexdigit() && !(hyphenated && HYPHENS.contains(&at)),
        };
        let digits: String = prefix.chars().filter(|letter| *letter != '-').collect();
        if digits.len() > DIGITS || !prefix.bytes().enumerate().all(is_valid) {
            return None;
        }
        let first = format!("{digits:0<DIGITS$}");
        let last = format!("{digits:f<DIGITS$}");
        let id = |full: &str| u128::from_str_radix(full, 16).ok().map(|number| Self(Uuid::from_u128(number)));
        Some((id(&first)?, id(&last)?))
    }

    /// Returns whether `text` can be a prefix of an id: at least four hexadecimal digits or hyphens.
    pub fn is_prefix(text: &str) -> bool {
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
        Uuid::try_parse(text).map(Self).map_err(|_| InvalidVmId { value: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_vm_id_short_form_is_a_prefix() {
        let id: VmId = "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11".parse().unwrap();

        assert_eq!(id.short(), "0d9f2ac358b1");
        assert_eq!(id.to_string(), "0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11");
    }

    #[test]
    fn test_vm_id_prefix_of_three_digits_is_too_short() {
        assert!(!VmId::is_prefix("0d9"));
        assert!(VmId::is_prefix("0d9f"));
        assert!(!VmId::is_prefix("web1"));
    }

    #[track_caller]
    fn check_range(prefix: &str, expected: Option<(&str, &str)>) {
        let range = VmId::range_of_prefix(prefix).map(|(first, last)| (first.to_string(), last.to_string()));
        assert_eq!(range, expected.map(|(first, last)| (first.to_owned(), last.to_owned())), "{prefix:?}");
    }

    #[test]
    fn test_range_of_prefix_of_either_form_and_case() {
        let expected = Some(("0d9f2ac3-5000-0000-0000-000000000000", "0d9f2ac3-5fff-ffff-ffff-ffffffffffff"));

        check_range("0d9f2ac35", expected);
        check_range("0d9f2ac3-5", expected);
        check_range("0D9F2AC3-5", expected);
    }

    #[test]
    fn test_range_of_empty_prefix_spans_all() {
        check_range("", Some(("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff")));
    }

    #[test]
    fn test_range_of_invalid_prefix_is_none() {
        check_range("web", None);
        check_range("0d9f-2ac3", None);
        check_range("0d9f2ac3-58b14", None);
        check_range("+d9f", None);
        check_range(&"0".repeat(33), None);
    }
}
