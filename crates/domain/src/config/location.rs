//! Source locations.

use std::fmt;
use std::sync::Arc;

/// A location in a file or on the command line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceLocation {
    /// The file as the user named it, or a description such as ``option `--memory` ``.
    pub source: Arc<str>,
    /// The line, from 1; 0 if the source has no lines.
    pub line: u32,
    /// The column in characters, from 1; 0 if the source has no columns.
    pub column: u32,
    /// The start, in bytes from the beginning of the source.
    pub offset: usize,
    /// The length in bytes.
    pub length: usize,
}

impl SourceLocation {
    /// Makes a location without lines, such as an option.
    pub fn named(source: impl Into<Arc<str>>) -> Self {
        Self { source: source.into(), line: 0, column: 0, offset: 0, length: 0 }
    }
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        match (self.line, self.column) {
            (0, _) => Ok(()),
            (line, column) => write!(f, ":{line}:{column}"),
        }
    }
}
