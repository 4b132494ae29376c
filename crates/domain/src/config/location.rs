//! Where something stands in a configuration.

use std::fmt;
use std::sync::Arc;

/// A place in a file or on the command line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceLocation {
    /// The file as it was named, or a description such as ``flag `--memory` ``.
    pub source: Arc<str>,
    /// The line, from 1; 0 where the source has no lines.
    pub line: u32,
    /// The column in characters, from 1; 0 where the source has no columns.
    pub column: u32,
    /// Where it begins, in bytes from the start of the source.
    pub offset: usize,
    /// How long it is, in bytes.
    pub length: usize,
}

impl SourceLocation {
    /// Makes a place that has a name and no lines, such as a flag.
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
