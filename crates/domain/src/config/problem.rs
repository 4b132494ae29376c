//! Something wrong in a configuration, where it stands.

use serde::Serialize;

use super::SourceLocation;

/// What kind of mistake a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// A key that nobody knows; whoever is lenient leaves it out.
    UnknownKey,
    /// Something is not there that is needed; another file could bring it.
    Missing,
    /// Anything else.
    Invalid,
}

/// One thing that is wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of mistake it is.
    pub kind: ProblemKind,
    /// The key, as in `storage[1].size`; empty for the document itself.
    pub path: String,
    /// What is wrong: what was found and what was expected.
    pub message: String,
    /// What would help, as in ``did you mean `memory`?``.
    pub help: Option<String>,
    /// Where it stands, if it came from a file or a flag.
    pub place: Option<SourceLocation>,
    /// A second place that belongs to it, such as the first of two duplicates.
    pub other: Option<SourceLocation>,
}

impl Serialize for Problem {
    /// Writes `path`, `message`, `help`, `file`, `line`, `column`; what is unknown is left out.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;

        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", &self.path)?;
        map.serialize_entry("message", &self.message)?;
        if let Some(help) = &self.help {
            map.serialize_entry("help", help)?;
        }
        if let Some(place) = &self.place {
            map.serialize_entry("file", &*place.source)?;
            if place.line > 0 {
                map.serialize_entry("line", &place.line)?;
                map.serialize_entry("column", &place.column)?;
            }
        }
        if let Some(other) = &self.other {
            map.serialize_entry("other", &other.to_string())?;
        }
        map.end()
    }
}
