//! The name of a VM.

use serde_with::{DeserializeFromStr, SerializeDisplay};

use crate::text::checked_text;

/// The name of a VM, unique in a store.
///
/// Letters and digits of any language, and `-`, `_`, `.`, `+` between them; at most 64 bytes. A name becomes a folder
/// and part of a command line, so what could be read as a path, an option or a second argument is refused here, and
/// nowhere else.
///
/// ```
/// use maqet_domain::vm::VmName;
///
/// assert!(VmName::parse("web-1").is_ok());
/// assert!(VmName::parse("../etc").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, DeserializeFromStr, SerializeDisplay)]
pub struct VmName(String);

/// A text that is not a valid [`VmName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid VM name `{}`: {reason}", value.escape_debug())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct InvalidVmName {
    pub value: String,
    pub reason: &'static str,
}

impl VmName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidVmName> {
        let reason = match text {
            "" => "must not be empty",
            _ if text.len() > Self::MAX_LEN => "must not be longer than 64 bytes",
            _ if !text.starts_with(char::is_alphanumeric) => "must start with a letter or digit",
            _ if !text.chars().all(is_allowed) => "may contain letters, digits and - _ . + only",
            _ => return Ok(Self(text.to_owned())),
        };
        Err(InvalidVmName { value: text.chars().take(2 * Self::MAX_LEN).collect(), reason })
    }
}

fn is_allowed(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+')
}

checked_text!(VmName, InvalidVmName);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn test_vm_name_usual_names_are_valid() {
        for name in ["web", "node-1", "Müller_2", "a.b", "7", "c++", "日本"] {
            assert!(VmName::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn test_vm_name_unsafe_names_are_invalid() {
        let long = "x".repeat(65);
        for name in ["", "-x", "../x", "a/b", ".hidden", "a\0", "a\n", "a b", "a,b", "\"a\"", "🦀", &long, "a'b"] {
            assert!(VmName::parse(name).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn test_vm_name_any_valid_name_is_one_safe_path_part(text in any::<String>()) {
            if let Ok(name) = VmName::parse(&text) {
                let path = std::path::Path::new(name.as_str());
                prop_assert_eq!(path.components().count(), 1);
                prop_assert!(path.is_relative() && name.as_str() != ".." && name.as_str() != ".");
            }
        }
    }
}
