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

/// Returns whether a terminal acts on a character instead of showing it.
pub fn is_control(c: char) -> bool {
    // Line and paragraph separators, and direction marks, which can disguise a text as another one.
    let is_layout =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    c.is_control() || is_layout
}

/// Returns a text without the sequences that a terminal obeys: colors, movements, titles, character sets.
///
/// ```
/// assert_eq!(maqet_domain::text::without_escape_sequences("\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;title\u{7}x"), "red x");
/// ```
pub fn without_escape_sequences(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            plain.push(c);
            continue;
        }
        match rest.next() {
            // A control sequence ends with a letter or one of `@[\]^_`{|}~`.
            Some('[') => drop(rest.find(|end| ('@'..='~').contains(end))),
            // A string ends with BEL, or an escape and a backslash.
            Some(']' | 'P' | 'X' | '^' | '_') => {
                if rest.find(|end| matches!(end, '\u{7}' | '\u{1b}')) == Some('\u{1b}') {
                    rest.next_if_eq(&'\\');
                }
            }
            Some('(' | ')' | '*' | '+' | '#' | '%' | ' ') => drop(rest.next()),
            Some(_) | None => {}
        }
    }
    Cow::Owned(plain)
}

/// Returns a text with its control characters escaped, as in `\u{1b}`: it stays on one line, and a terminal obeys none of
/// it.
pub fn escape_control(text: &str) -> Cow<'_, str> {
    replace_control(text, |c, escaped| escaped.extend(c.escape_debug()))
}

/// Returns a text with its control characters replaced by what `replace` appends for each.
pub fn replace_control(text: &str, mut replace: impl FnMut(char, &mut String)) -> Cow<'_, str> {
    // Nearly every text is plain ASCII, and checking bytes is much cheaper than checking characters.
    let is_plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if is_plain || !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut replaced = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_control(c) {
            replace(c, &mut replaced);
        } else {
            replaced.push(c);
        }
    }
    Cow::Owned(replaced)
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

    #[track_caller]
    fn check_escaped(text: &str, expected: &str) {
        assert_eq!(escape_control(text), expected);
    }

    #[test]
    fn test_escape_control_escape_sequence_is_visible() {
        check_escaped("x\u{1b}[31mRED\nfake", "x\\u{1b}[31mRED\\nfake");
        check_escaped("a\r\tb\u{7f}\u{9b}2J\0", "a\\r\\tb\\u{7f}\\u{9b}2J\\0");
    }

    #[test]
    fn test_escape_control_direction_mark_is_visible() {
        check_escaped("a\u{202e}b\u{2066}c\u{2028}d", "a\\u{202e}b\\u{2066}c\\u{2028}d");
    }

    #[test]
    fn test_escape_control_letters_of_any_language_are_kept() {
        check_escaped("größe, 東京, it's \"so\" \\ 🙂", "größe, 東京, it's \"so\" \\ 🙂");
        assert!(matches!(escape_control("größe"), Cow::Borrowed(_)));
    }
}
