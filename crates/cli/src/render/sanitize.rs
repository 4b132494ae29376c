//! Untrusted text on its way to a terminal.
//!
//! Names from disk images, QEMU's error output, paths and above all guests may contain control sequences that set a
//! title, send an answer as if it was typed, or overwrite what is shown. [`escape_control`] makes control characters
//! visible. [`TerminalSanitizer`] does so for a guest's output, which comes in pieces, and removes escape sequences, as
//! boot logs are full of colors. JSON and YAML output has its own escapes and does not pass here.

use std::borrow::Cow;

pub(crate) use maqet::domain::text::escape_control;
use maqet::domain::text::{is_control, replace_control};

/// Escapes every line of a text whose line breaks are meant, such as QEMU's error output.
pub(crate) fn escape_control_lines(text: &str) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let lines: Vec<Cow<'_, str>> = text.lines().map(escape_control).collect();
    Cow::Owned(lines.join("\n"))
}

/// Escapes the control characters of a command line so that a shell still reads the same arguments.
///
/// They occur only within single quotes, which are closed around `$'\033'`.
pub(crate) fn escape_for_shell(line: &str) -> Cow<'_, str> {
    replace_control(line, |c, escaped| {
        escaped.push_str("'$'");
        escaped.extend(c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("\\{byte:03o}")));
        escaped.push_str("''");
    })
}

/// Replaces control characters by others of the same length in bytes, for a source line with marks below it.
///
/// ASCII control characters are left to the snippet renderer, which replaces them itself.
pub(crate) fn mask_control(text: &str) -> Cow<'_, str> {
    replace_control(text, |c, masked| {
        masked.push(match c.len_utf8() {
            1 => c,
            2 => '·',
            _ => char::REPLACEMENT_CHARACTER,
        });
    })
}

/// Escapes the control characters that JSON permits in strings; the document keeps its meaning.
pub(crate) fn escape_for_json(text: &str) -> Cow<'_, str> {
    replace_control(text, |c, escaped| match c {
        '\n' => escaped.push(c),
        // None of them is outside the Basic Multilingual Plane.
        _ => escaped.extend([format!("\\u{:04x}", u32::from(c))]),
    })
}

/// Returns how many bytes can be decoded without splitting a character that is still incomplete at the end.
pub(crate) fn complete_characters(bytes: &[u8]) -> usize {
    let mut start = 0;
    loop {
        match std::str::from_utf8(&bytes[start..]) {
            Ok(_) => return bytes.len(),
            Err(error) => match error.error_len() {
                Some(length) => start += error.valid_up_to() + length,
                None => return start + error.valid_up_to(),
            },
        }
    }
}

/// Removes escape sequences from a guest's output and escapes other control characters.
///
/// Pieces may end anywhere, in the middle of a character or of a sequence.
#[derive(Debug, Default)]
pub(crate) struct TerminalSanitizer {
    /// The first bytes of an incomplete character.
    incomplete: Vec<u8>,
    state: State,
    /// Whether a carriage return follows the last character of the output.
    is_returned: bool,
    /// Whether the output ends with a line break.
    is_at_line_start: bool,
}

/// The part of the stream that the next character belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Text,
    /// After an escape character.
    Escape,
    /// After an escape character and one that selects a character set.
    Charset,
    /// In `ESC [ …`, which ends with a letter.
    ControlSequence,
    /// In a string for the terminal, such as a title: `ESC ] …`, ended by BEL or `ESC \`.
    ControlString,
}

impl TerminalSanitizer {
    /// Returns the text to show for the next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.incomplete);
        bytes.extend_from_slice(piece);
        self.incomplete = bytes.split_off(complete_characters(&bytes));
        self.sanitize(&String::from_utf8_lossy(&bytes))
    }

    /// Returns the text to show for an incomplete character at the end.
    pub(crate) fn finish(&mut self) -> String {
        let incomplete = std::mem::take(&mut self.incomplete);
        self.sanitize(&String::from_utf8_lossy(&incomplete))
    }

    fn sanitize(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            self.state = self.step(c, &mut out);
        }
        out
    }

    fn step(&mut self, c: char, out: &mut String) -> State {
        match self.state {
            State::Text => match c {
                // The 8-bit forms of `ESC [`, `ESC ]` and so on (C1).
                '\u{9b}' => State::ControlSequence,
                '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => State::ControlString,
                c => self.text(c, out),
            },
            State::Escape => match c {
                '[' => State::ControlSequence,
                ']' | 'P' | 'X' | '^' | '_' => State::ControlString,
                ' '..='/' => State::Charset,
                '0'..='~' => State::Text,
                c => self.text(c, out),
            },
            State::Charset if matches!(c, '0'..='~') => State::Text,
            State::Charset => self.text(c, out),
            State::ControlSequence => match c {
                '@'..='~' => State::Text,
                ' '..='?' => State::ControlSequence,
                c => self.text(c, out),
            },
            State::ControlString => match c {
                '\u{7}' | '\u{9c}' | '\u{18}' | '\u{1a}' => State::Text,
                // A string without an end must not swallow the rest of the log.
                '\n' | '\u{1b}' => self.text(c, out),
                _ => State::ControlString,
            },
        }
    }

    /// Continues with text, or with a sequence that starts here, whatever came before.
    fn text(&mut self, c: char, out: &mut String) -> State {
        if c == '\u{1b}' {
            return State::Escape;
        }
        if c == '\r' {
            self.is_returned = true;
            return State::Text;
        }
        // Text after a carriage return would overwrite the line; it becomes a new line.
        if self.is_returned && c != '\n' && !self.is_at_line_start {
            out.push('\n');
        }
        match c {
            '\n' | '\t' => out.push(c),
            c => out.push_str(&escape_control(c.encode_utf8(&mut [0; 4]))),
        }
        self.is_returned = false;
        self.is_at_line_start = c == '\n';
        State::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_escape_control_lines_keeps_line_breaks() {
        assert_eq!(escape_control_lines("one\u{1b}[2J\r\ntwo\u{7}\n"), "one\\u{1b}[2J\ntwo\\u{7}");
    }

    #[test]
    fn test_mask_control_keeps_the_length() {
        assert_eq!(mask_control("a: ö\n\u{9b}2J \u{202e}b"), "a: ö\n·2J \u{fffd}b");
    }

    #[test]
    fn test_escape_for_json_keeps_the_meaning() {
        let value = serde_json::json!({"a": "\u{9b}2J\u{7f}\n\u{202e}ö"});

        let escaped = escape_for_json(&serde_json::to_string_pretty(&value).unwrap()).into_owned();

        assert_eq!(escaped, "{\n  \"a\": \"\\u009b2J\\u007f\\n\\u202eö\"\n}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }

    #[test]
    fn test_escape_for_shell_quotes_control_characters() {
        assert_eq!(escape_for_shell("qemu -append 'a\nb'"), "qemu -append 'a'$'\\012''b'");
    }

    #[track_caller]
    fn check_sanitized(pieces: &[&[u8]], expected: &str) {
        let mut sanitizer = TerminalSanitizer::default();
        let mut out: String = pieces.iter().map(|piece| sanitizer.push(piece)).collect();
        out.push_str(&sanitizer.finish());
        assert_eq!(out, expected, "{pieces:?}");
    }

    #[test]
    fn test_sanitizer_removes_sequences_and_keeps_text() {
        check_sanitized(&[b"\x1b[1;31mred\x1b[0m plain\r\n\tindented\n"], "red plain\n\tindented\n");
        check_sanitized(&[b"\x1b]0;a title\x07after \x1b]8;;http://x\x1b\\link"], "after link");
        check_sanitized(&[b"\x1b(B\x1b=\x1b7\xc2\x9b2Jx"], "x");
        check_sanitized(&[b"\x1bc\x1b[?7l\x1b[2JSeaBIOS"], "SeaBIOS");
    }

    #[test]
    fn test_sanitizer_escapes_other_control_characters() {
        check_sanitized(&[b"a\x07b\x08c\x7f\x00"], "a\\u{7}b\\u{8}c\\u{7f}\\0");
        check_sanitized(&["x\u{202e}y".as_bytes()], "x\\u{202e}y");
    }

    #[test]
    fn test_sanitizer_carriage_return_overwrites_nothing() {
        check_sanitized(&[b"10%\r20%\r\r\nnext\n\rlast"], "10%\n20%\nnext\nlast");
        check_sanitized(&[b"a\r", b"\nb\r", b"c"], "a\nb\nc");
        check_sanitized(&[b"prompt\r\x1b[Kagain"], "prompt\nagain");
    }

    #[test]
    fn test_sanitizer_unended_string_swallows_its_line_only() {
        check_sanitized(&[b"\x1b]0;never ended\nnext \x1bPx\x18more"], "\nnext more");
        check_sanitized(&[b"\x1b[12\nnext"], "\nnext");
    }

    #[test]
    fn test_sanitizer_pieces_may_end_anywhere() {
        let whole = "ö\u{1b}[31mü\u{1b}]0;t\u{7}\r\nß".as_bytes();
        for cut in 0..whole.len() {
            check_sanitized(&[&whole[..cut], &whole[cut..]], "öü\nß");
        }
        check_sanitized(&[b"\xff\xc3"], "\u{fffd}\u{fffd}");
    }
}
