//! Text from outside, made safe and short enough for messages and logs.

use std::borrow::Cow;
use std::fmt::Display;

/// The length of a value in a message.
const MAX_SHOWN: usize = 40;

/// Returns the first `max` characters of a text, followed by `…` if there are more.
///
/// ```
/// assert_eq!(maqet_domain::text::truncated("abcdef", 3), "abc…");
/// ```
pub fn truncated(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Returns the first `max` characters of a text with control characters and quotes escaped, on one line.
pub fn escaped(text: &str, max: usize) -> String {
    let mut end = text.char_indices().skip(max);
    let (shown, rest) = text.split_at(end.next().map_or(text.len(), |(end, _)| end));
    format!("{}{}", shown.escape_debug(), if rest.is_empty() { "" } else { "…" })
}

/// Returns a value as it appears in a message: in backticks, escaped, and at most 40 characters long.
///
/// ```
/// assert_eq!(maqet_domain::text::shortened("a\nb"), r"`a\nb`");
/// ```
pub fn shortened(text: &str) -> String {
    format!("`{}`", escaped(text, MAX_SHOWN))
}

/// Returns a text with its control characters escaped, so that it stays on one line and a terminal obeys none of it.
pub fn escape_control(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() }).collect()
}

/// Returns names in backticks, separated by commas.
pub fn quoted_list(names: impl IntoIterator<Item = impl Display>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_escaped_is_cut_at_characters_not_bytes() {
        assert_eq!(escaped("üüü", 2), "üü…");
        assert_eq!(escaped("üü", 2), "üü");
        assert_eq!(escaped("a\u{1b}[m", 2), r"a\u{1b}…");
    }

    #[test]
    fn test_escape_control_leaves_other_characters_alone() {
        assert_eq!(escape_control("ü'\n\u{1b}"), r"ü'\n\u{1b}");
    }
}
