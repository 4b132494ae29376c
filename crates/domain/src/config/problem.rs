//! A problem in a configuration.

use serde::Serialize;

use super::SourceLocation;
use crate::text::shortened;

/// The kind of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// An unknown key; lenient checks ignore it.
    UnknownKey,
    /// Something required is missing; another file could provide it.
    Missing,
    /// Valid, and probably not meant.
    Warning,
    /// Anything else.
    Invalid,
}

/// One problem in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its kind.
    pub kind: ProblemKind,
    /// The key, as in `storage[1].size`; empty for the document itself.
    pub path: String,
    /// What is wrong: what was found and what was expected.
    pub message: String,
    /// How to fix it, as in ``did you mean `memory`?``.
    pub help: Option<String>,
    /// Where it is, if it came from a file or an option.
    pub location: Option<SourceLocation>,
    /// A related location, such as the first of two duplicates.
    pub other: Option<SourceLocation>,
}

impl Problem {
    /// Makes a problem of kind `Invalid` without help and locations.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass a `KeyPath` or a literal, by value or reference")]
    pub fn new(path: impl ToString, message: impl Into<String>) -> Self {
        let kind = ProblemKind::Invalid;
        Self { kind, path: path.to_string(), message: message.into(), help: None, location: None, other: None }
    }

    /// Returns the message after the path of the key, unless the message names that path already.
    pub fn title(&self) -> String {
        let path = shortened(&self.path);
        if self.path.is_empty() || self.message.contains(&path) {
            return self.message.clone();
        }
        format!("{path}: {}", self.message)
    }
}

impl Serialize for Problem {
    /// Writes `path`, `message`, `help`, `file`, `line`, `column` and `other`; absent values are left out.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;

        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", &self.path)?;
        map.serialize_entry("message", &self.message)?;
        if let Some(help) = &self.help {
            map.serialize_entry("help", help)?;
        }
        if let Some(location) = &self.location {
            map.serialize_entry("file", &*location.source)?;
            if location.line > 0 {
                map.serialize_entry("line", &location.line)?;
                map.serialize_entry("column", &location.column)?;
            }
        }
        if let Some(other) = &self.other {
            map.serialize_entry("other", &other.to_string())?;
        }
        map.end()
    }
}
