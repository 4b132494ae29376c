//! The name of a VM.

use serde_with::{DeserializeFromStr, SerializeDisplay};

use super::VmId;
use crate::text::checked_text;

/// The label of a VM that is removed in the end: by the process that runs a command in it or, if that was killed, by the
/// next one that looks for such VMs.
pub const THROW_AWAY_LABEL: &str = "maqet.run";

/// The label of a VM that is being made from a checkpoint, with the ID of that VM: it is removed if the process that makes it
/// is killed.
pub const FORK_LABEL: &str = "maqet.fork";

/// The label of a fork that is removed once it has stopped, with its own ID.
pub const EPHEMERAL_LABEL: &str = "maqet.ephemeral";

/// How many digits of the ID the name of a VM has that is thrown away.
const ID_DIGITS: usize = 8;

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

    /// Returns the name of a VM that is thrown away: that of what it is made from, as far as there is room, and the beginning
    /// of its ID.
    #[must_use]
    pub fn of_throw_away(base: Option<&Self>, id: &VmId) -> Self {
        let suffix = Self::throw_away_suffix(id);
        let base = base.map_or("run", Self::as_str);
        let mut end = base.len().min(Self::MAX_LEN - suffix.len());
        while !base.is_char_boundary(end) {
            end -= 1;
        }
        Self(format!("{}{suffix}", &base[..end]))
    }

    /// Returns whether this is such a name; a definition that is copied to another VM gets another ID.
    pub fn is_of_throw_away(&self, id: &VmId) -> bool {
        self.0.ends_with(&Self::throw_away_suffix(id))
    }

    fn throw_away_suffix(id: &VmId) -> String {
        format!("-{}", &id.short()[..ID_DIGITS])
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

    #[test]
    fn test_name_of_throw_away_fits_and_belongs_to_its_id() {
        let [id, other] = ["0d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11", "1d9f2ac3-58b1-4c3e-9a5e-2f1f6f0f7a11"]
            .map(|id| id.parse::<VmId>().unwrap());
        let name = |text: &str| VmName::parse(text).unwrap();

        let names = [None, Some(name("web")), Some(name(&"x".repeat(64))), Some(name(&"日".repeat(21)))]
            .map(|base| VmName::of_throw_away(base.as_ref(), &id));

        assert_eq!([names[0].as_str(), names[1].as_str()], ["run-0d9f2ac3", "web-0d9f2ac3"]);
        assert_eq!([names[2].as_str().len(), names[3].as_str().len()], [64, 63]);
        for name in names {
            assert!(VmName::parse(name.as_str()).is_ok());
            assert!(name.is_of_throw_away(&id) && !name.is_of_throw_away(&other));
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
