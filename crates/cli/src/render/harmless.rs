//! What a guest wrote, on its way to a person's terminal.
//!
//! A guest is a stranger: its output may hold sequences that set a title, answer for the person at the keyboard, or
//! overwrite what stands there. Sequences are left out, as boot logs are full of colours; whatever else a terminal would
//! obey is shown instead. Pieces may end anywhere, in the middle of a character or of a sequence.

use super::printable::printable;
use crate::command::whole_characters;

/// Makes the output of a guest harmless, piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Harmless {
    /// The beginning of a character that is not complete yet.
    torn: Vec<u8>,
    place: Place,
    /// Whether a carriage return came after what was shown last.
    is_returned: bool,
    /// Whether the last that was shown is a line break.
    is_at_begin: bool,
}

/// Where in the stream we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// In text.
    #[default]
    Text,
    /// After an escape character.
    Escape,
    /// After an escape character and one that selects a character set.
    Charset,
    /// In `ESC [ …`, which ends with a letter.
    Control,
    /// In a text for the terminal itself, such as a title: `ESC ] …`, ended by BEL or `ESC \`.
    String,
}

impl Harmless {
    /// Returns what is shown of the next piece.
    pub(crate) fn of(&mut self, piece: &[u8]) -> String {
        let mut bytes = std::mem::take(&mut self.torn);
        bytes.extend_from_slice(piece);
        self.torn = bytes.split_off(whole_characters(&bytes));
        self.shown(&String::from_utf8_lossy(&bytes))
    }

    /// Returns what is shown of what was held back.
    pub(crate) fn rest(&mut self) -> String {
        let torn = std::mem::take(&mut self.torn);
        self.shown(&String::from_utf8_lossy(&torn))
    }

    fn shown(&mut self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        for c in text.chars() {
            self.place = self.step(c, &mut shown);
        }
        shown
    }

    fn step(&mut self, c: char, shown: &mut String) -> Place {
        match self.place {
            Place::Text => match c {
                // The same in one character (C1).
                '\u{9b}' => Place::Control,
                '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => Place::String,
                c => self.next(c, shown),
            },
            Place::Escape => match c {
                '[' => Place::Control,
                ']' | 'P' | 'X' | '^' | '_' => Place::String,
                ' '..='/' => Place::Charset,
                '0'..='~' => Place::Text,
                c => self.next(c, shown),
            },
            Place::Charset if matches!(c, '0'..='~') => Place::Text,
            Place::Charset => self.next(c, shown),
            Place::Control => match c {
                '@'..='~' => Place::Text,
                ' '..='?' => Place::Control,
                c => self.next(c, shown),
            },
            Place::String => match c {
                '\u{7}' | '\u{9c}' | '\u{18}' | '\u{1a}' => Place::Text,
                // A text that is never ended must not swallow the rest of the log.
                '\n' | '\u{1b}' => self.next(c, shown),
                _ => Place::String,
            },
        }
    }

    /// Goes on with text, or with a sequence that begins here, whatever came before.
    fn next(&mut self, c: char, shown: &mut String) -> Place {
        if c == '\u{1b}' { Place::Escape } else { self.show(c, shown) }
    }

    fn show(&mut self, c: char, shown: &mut String) -> Place {
        if c == '\r' {
            self.is_returned = true;
            return Place::Text;
        }
        // A line that is begun anew would overwrite what stands there; it becomes a line of its own.
        if self.is_returned && c != '\n' && !self.is_at_begin {
            shown.push('\n');
        }
        match c {
            '\n' | '\t' => shown.push(c),
            c => shown.push_str(&printable(c.encode_utf8(&mut [0; 4]))),
        }
        self.is_returned = false;
        self.is_at_begin = c == '\n';
        Place::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[&[u8]], expected: &str) {
        let mut harmless = Harmless::default();
        let mut shown: String = pieces.iter().map(|piece| harmless.of(piece)).collect();
        shown.push_str(&harmless.rest());
        assert_eq!(shown, expected, "{pieces:?}");
    }

    #[test]
    fn test_harmless_sequences_are_left_out_and_text_stays() {
        check(&[b"\x1b[1;31mred\x1b[0m plain\r\n\tindented\n"], "red plain\n\tindented\n");
        check(&[b"\x1b]0;a title\x07after \x1b]8;;http://x\x1b\\link"], "after link");
        check(&[b"\x1b(B\x1b=\x1b7\xc2\x9b2Jx"], "x");
        check(&[b"\x1bc\x1b[?7l\x1b[2JSeaBIOS"], "SeaBIOS");
    }

    #[test]
    fn test_harmless_other_control_characters_are_shown() {
        check(&[b"a\x07b\x08c\x7f\x00"], "a\\u{7}b\\u{8}c\\u{7f}\\0");
        check(&["x\u{202e}y".as_bytes()], "x\\u{202e}y");
    }

    #[test]
    fn test_harmless_line_begun_anew_overwrites_nothing() {
        check(&[b"10%\r20%\r\r\nnext\n\rlast"], "10%\n20%\nnext\nlast");
        check(&[b"a\r", b"\nb\r", b"c"], "a\nb\nc");
        check(&[b"prompt\r\x1b[Kagain"], "prompt\nagain");
    }

    #[test]
    fn test_harmless_text_that_is_never_ended_swallows_its_line_only() {
        check(&[b"\x1b]0;never ended\nnext \x1bPx\x18more"], "\nnext more");
        check(&[b"\x1b[12\nnext"], "\nnext");
    }

    #[test]
    fn test_harmless_pieces_end_anywhere() {
        let whole = "ö\u{1b}[31mü\u{1b}]0;t\u{7}\r\nß".as_bytes();
        for cut in 0..whole.len() {
            check(&[&whole[..cut], &whole[cut..]], "öü\nß");
        }
        check(&[b"\xff\xc3"], "\u{fffd}\u{fffd}");
    }
}
