//! Names of checkpoints.

use serde_with::{DeserializeFromStr, SerializeDisplay};

use super::manifest::UNFINISHED_SUFFIX;
use crate::text::checked_text;

/// The name of a checkpoint, unique in its VM.
///
/// It is also the name of its directory. The same letters as in the name of a VM: `VM@NAME` is unambiguous.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, DeserializeFromStr, SerializeDisplay)]
pub struct CheckpointName(String);

/// A text that is not a valid [`CheckpointName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid name of a checkpoint `{}`: {reason}", value.escape_debug())]
#[expect(missing_docs, reason = "the messages name the fields")]
pub struct InvalidCheckpointName {
    pub value: String,
    pub reason: &'static str,
}

impl CheckpointName {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 64;

    /// Checks a name.
    pub fn parse(text: &str) -> Result<Self, InvalidCheckpointName> {
        let is_allowed = |letter: char| letter.is_alphanumeric() || "-_.+".contains(letter);
        let reason = match text {
            "" => "must not be empty",
            _ if text.len() > Self::MAX_LEN => "must not be longer than 64 bytes",
            _ if !text.starts_with(char::is_alphanumeric) => "must start with a letter or digit",
            _ if !text.chars().all(is_allowed) => "may contain letters, digits and - _ . + only",
            _ if text.ends_with(UNFINISHED_SUFFIX) => "must not end with `.partial`, as an unfinished checkpoint",
            _ => return Ok(Self(text.to_owned())),
        };
        Err(InvalidCheckpointName { value: text.chars().take(2 * Self::MAX_LEN).collect(), reason })
    }
}

checked_text!(CheckpointName, InvalidCheckpointName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_name_is_one_component_of_a_path() {
        for name in ["booted", "v1.2", "2026-11-30", "größe", "a+b_c"] {
            assert!(CheckpointName::parse(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".x", "-x", "a/b", "a@b", "a b", "a\nb", "x.partial", &"x".repeat(65)] {
            assert!(CheckpointName::parse(name).is_err(), "{name:?}");
        }
    }
}
