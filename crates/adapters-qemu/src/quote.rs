//! Quotes the output of other programs in errors.

use crate::limits::MAX_QUOTED_CHARS;

/// Returns the beginning of a line, escaped.
pub(crate) fn quoted(line: &str) -> String {
    let line = line.trim();
    let mut short: String = line.chars().take(MAX_QUOTED_CHARS).flat_map(char::escape_debug).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short
}
