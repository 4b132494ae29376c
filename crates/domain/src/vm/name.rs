//! The name of a VM.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name a person gives a VM; unique in a store.
///
/// Letters and digits of any language, and `-`, `_`, `.`, `+` between them; 64 bytes at most. A name
/// becomes a folder and part of a command line, so what could be read as a path, an option or a
/// second word is refused here and nowhere else.
///
/// ```
/// use maqet_domain::vm::VmName;
///
/// assert!(VmName::parse("web-1").is_ok());
/// assert!(VmName::parse("../etc").is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VmName(String);

/// A text that cannot be a [`VmName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("VM name `{}` is not usable: {why}", given.escape_debug())]
pub struct InvalidVmName {
    /// What was given.
    pub given: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl VmName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidVmName> {
        match complaint(text) {
            None => Ok(Self(text.to_owned())),
            Some(why) => Err(InvalidVmName { given: text.chars().take(2 * Self::MAX_LEN).collect(), why }),
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn complaint(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > VmName::MAX_LEN {
        return Some("it is longer than 64 bytes");
    }
    if !text.starts_with(char::is_alphanumeric) {
        return Some("it begins with neither a letter nor a digit");
    }
    if !text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+')) {
        return Some("it may hold letters, digits and - _ . + only");
    }
    None
}

impl fmt::Display for VmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VmName {
    type Err = InvalidVmName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for VmName {
    type Error = InvalidVmName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<VmName> for String {
    fn from(name: VmName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn test_vm_name_usual_names_are_taken() {
        for name in ["web", "node-1", "Müller_2", "a.b", "7", "c++", "日本"] {
            assert!(VmName::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn test_vm_name_dangerous_or_broken_is_refused() {
        let long = "x".repeat(65);
        for name in ["", "-x", "../x", "a/b", ".hidden", "a\0", "a\n", "a b", "a,b", "\"a\"", "🦀", &long, "a'b"] {
            assert!(VmName::parse(name).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn test_vm_name_any_accepted_name_is_one_safe_path_part(text in any::<String>()) {
            if let Ok(name) = VmName::parse(&text) {
                let path = std::path::Path::new(name.as_str());
                prop_assert_eq!(path.components().count(), 1);
                prop_assert!(path.is_relative() && name.as_str() != ".." && name.as_str() != ".");
            }
        }
    }
}
