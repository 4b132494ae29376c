//! Words of others on their way to a person's terminal.
//!
//! Names from disk images, QEMU's last words and paths may hold what a terminal obeys; here it is
//! made visible instead. Data for scripts does not pass here: JSON and YAML have escapes of their own.

use std::borrow::Cow;

/// Returns `text` with everything a terminal would obey made visible: `\u{1b}` for an escape.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    replaced(text, |c, shown| shown.extend(c.escape_debug()))
}

/// Returns the same of a text whose line breaks are meant, such as what QEMU wrote before it ended.
pub(crate) fn printable_lines(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let lines: Vec<Cow<'_, str>> = text.lines().map(printable).collect();
    Cow::Owned(lines.join("\n"))
}

/// Returns a command line with the same made visible so that a shell still reads what was meant.
///
/// Such characters stand between single quotes only, which are closed around `$'\033'`.
pub(crate) fn for_shell(line: &str) -> Cow<'_, str> {
    replaced(line, |c, shown| {
        shown.push_str("'$'");
        shown.extend(c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("\\{byte:03o}")));
        shown.push_str("''");
    })
}

/// Returns a text that is shown in place, with marks under it: byte for byte as long, and nothing in
/// it obeyed that the renderer of snippets does not replace itself.
pub(crate) fn in_place(text: &str) -> Cow<'_, str> {
    replaced(text, |c, shown| {
        shown.push(match c.len_utf8() {
            1 => c,
            2 => '·',
            _ => char::REPLACEMENT_CHARACTER,
        });
    })
}

/// Returns a JSON text with what JSON itself leaves as it is made visible; it says the same still.
pub(crate) fn for_json(text: &str) -> Cow<'_, str> {
    replaced(text, |c, shown| match c {
        '\n' => shown.push(c),
        // All of them have four digits at most.
        _ => shown.extend([format!("\\u{:04x}", u32::from(c))]),
    })
}

fn replaced(text: &str, mut replace: impl FnMut(char, &mut String)) -> Cow<'_, str> {
    // Nearly every text is, and a look at its bytes is a fraction of one at its characters.
    let is_plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if is_plain || !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_obeyed(c) {
            replace(c, &mut shown);
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Returns whether a terminal does something else with a character than showing it.
fn is_obeyed(c: char) -> bool {
    // Lines, paragraphs, and the direction of writing, with which a text can pose as another.
    let is_layout =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    c.is_control() || is_layout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(printable(text), expected);
    }

    #[test]
    fn test_printable_escape_sequence_is_shown_not_obeyed() {
        check("x\u{1b}[31mRED\nfake", "x\\u{1b}[31mRED\\nfake");
        check("a\r\tb\u{7f}\u{9b}2J\0", "a\\r\\tb\\u{7f}\\u{9b}2J\\0");
    }

    #[test]
    fn test_printable_writing_direction_is_shown_not_obeyed() {
        check("a\u{202e}b\u{2066}c\u{2028}d", "a\\u{202e}b\\u{2066}c\\u{2028}d");
    }

    #[test]
    fn test_printable_letters_of_any_language_stay() {
        check("größe, 東京, it's \"so\" \\ 🙂", "größe, 東京, it's \"so\" \\ 🙂");
        assert!(matches!(printable("größe"), Cow::Borrowed(_)));
    }

    #[test]
    fn test_printable_lines_keeps_breaks_and_escapes_each_line() {
        assert_eq!(printable_lines("one\u{1b}[2J\r\ntwo\u{7}\n"), "one\\u{1b}[2J\ntwo\\u{7}");
    }

    #[test]
    fn test_in_place_text_keeps_its_length() {
        assert_eq!(in_place("a: ö\n\u{9b}2J \u{202e}b"), "a: ö\n·2J \u{fffd}b");
    }

    #[test]
    fn test_for_json_text_says_the_same_and_is_printable() {
        let words = serde_json::json!({"a": "\u{9b}2J\u{7f}\n\u{202e}ö"});

        let shown = for_json(&serde_json::to_string_pretty(&words).unwrap()).into_owned();

        assert_eq!(shown, "{\n  \"a\": \"\\u009b2J\\u007f\\n\\u202eö\"\n}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), words);
    }

    #[test]
    fn test_for_shell_control_character_is_quoted_for_the_shell() {
        assert_eq!(for_shell("qemu -append 'a\nb'"), "qemu -append 'a'$'\\012''b'");
    }
}
