//! Keyboard layouts: which keys type a text.

mod table;

use serde_with::{DeserializeFromStr, SerializeDisplay};
use strum::VariantArray;

use self::table::{Dead, Table};
use super::chord::Chord;
use super::key::Key;
use crate::error::{Explain, Explanation, Fault};
use crate::text::{did_you_mean, similar};

/// The keyboard layout that a guest is configured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[derive(DeserializeFromStr, SerializeDisplay, strum::Display, strum::EnumString, strum::IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive, parse_err_ty = UnknownLayout, parse_err_fn = unknown)]
pub enum Layout {
    /// United States, the default of most guests.
    #[default]
    #[strum(to_string = "us", serialize = "en", serialize = "en-us")]
    Us,
    /// United Kingdom.
    #[strum(to_string = "uk", serialize = "gb", serialize = "en-gb")]
    Uk,
    /// Germany.
    De,
    /// France.
    Fr,
}

/// A name that is not that of a layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown keyboard layout `{}`; {}", name.escape_debug(), suggestion(similar))]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct UnknownLayout {
    pub name: String,
    pub similar: Vec<String>,
}

fn unknown(name: &str) -> UnknownLayout {
    UnknownLayout { name: name.chars().take(40).collect(), similar: similar(name, names()) }
}

fn names() -> impl Iterator<Item = &'static str> {
    Layout::VARIANTS.iter().map(Into::into)
}

fn suggestion(similar: &[String]) -> String {
    did_you_mean(similar).unwrap_or_else(|| format!("known layouts: {}", names().collect::<Vec<_>>().join(", ")))
}

/// A character that no key of a layout types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the layout `{layout}` has no key for `{}` (U+{:04X}) in line {line}, column {column}",
    character.escape_debug(), u32::from(*character))]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct UnsupportedCharacter {
    pub character: char,
    pub line: usize,
    pub column: usize,
    pub layout: Layout,
    /// The layouts that have a key for it.
    pub others: Vec<Layout>,
}

impl Explain for UnsupportedCharacter {
    fn explain(&self) -> Explanation {
        let explanation = Explanation::new("keys.character-unsupported", Fault::Usage);
        let others: Vec<String> = self.others.iter().map(|layout| format!("`--layout {layout}`")).collect();
        if others.is_empty() {
            return explanation.hint("remove it, or pass the text to the guest as a file");
        }
        explanation.hint(format!("pass {}, if that is the keyboard layout of the guest", others.join(" or ")))
    }
}

impl Layout {
    const fn table(self) -> &'static Table {
        match self {
            Self::Us => &table::US,
            Self::Uk => &table::UK,
            Self::De => &table::DE,
            Self::Fr => &table::FR,
        }
    }

    /// Returns the chords that type `text`; any line break is Enter, and a tab is Tab.
    ///
    /// ```
    /// use maqet_domain::keyboard::Layout;
    ///
    /// let typed = |layout: Layout| layout.chords("Y@").unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    /// assert_eq!(typed(Layout::Us), ["shift-y", "shift-2"]);
    /// assert_eq!(typed(Layout::De), ["shift-z", "alt_r-q"]);
    /// ```
    ///
    /// Errors: the first character without a key.
    pub fn chords(self, text: &str) -> Result<Vec<Chord>, UnsupportedCharacter> {
        let mut chords = Vec::with_capacity(text.len());
        let (mut line, mut column) = (1, 1);
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            if character == '\r' && characters.peek() == Some(&'\n') {
                continue;
            }
            if !self.type_one(character, &mut chords) {
                let others = Self::VARIANTS.iter().copied().filter(|other| other.type_one(character, &mut Vec::new()));
                return Err(UnsupportedCharacter { character, line, column, layout: self, others: others.collect() });
            }
            if self.may_combine(character, characters.peek().copied()) {
                chords.push(Chord::from_key(Key::SPACE));
            }
            column += 1;
            if matches!(character, '\n' | '\r') {
                (line, column) = (line + 1, 1);
            }
        }
        Ok(chords)
    }

    /// Returns whether an accent, typed by its key alone, would wait for the `next` key or combine with it on guests for
    /// which it is a dead key. There, the space bar types the accent; on others it types a space.
    fn may_combine(self, accent: char, next: Option<char>) -> bool {
        let dead = self.table().sometimes_dead.iter().find(|dead| dead.accent == accent);
        dead.is_some_and(|dead| match next {
            Some(next) => next == accent || next == ' ' || pairs(dead.letters).any(|[letter, _]| letter == next),
            None => true,
        })
    }

    /// Adds the chords that type a character; returns whether there are any.
    fn type_one(self, character: char, chords: &mut Vec<Chord>) -> bool {
        let plain = match character {
            '\n' | '\r' => Some(Chord::from_key(Key::ENTER)),
            '\t' => Some(Chord::from_key(Key::TAB)),
            ' ' => Some(Chord::from_key(Key::SPACE)),
            other => self.direct(other),
        };
        if let Some(chord) = plain {
            chords.push(chord);
            return true;
        }
        let composed = self.table().dead.iter().find_map(|dead| Some((dead, self.after(dead, character)?)));
        if let Some((dead, then)) = composed {
            chords.extend([dead.chord(), then]);
            return true;
        }
        false
    }

    /// Returns the chord that types a character without a dead key.
    fn direct(self, character: char) -> Option<Chord> {
        let level_of = |levels: &str| levels.chars().position(|one| one == character && one != table::NONE);
        let (name, level) = self.table().keys().find_map(|(name, levels)| Some((name, level_of(levels)?)))?;
        let key = Key::from_table(name);
        Some(Chord::from_keys(match level {
            0 => vec![key],
            1 => vec![Key::SHIFT, key],
            _ => vec![Key::ALT_GR, key],
        }))
    }

    /// Returns the chord that follows a dead key to type a character.
    fn after(self, dead: &Dead, character: char) -> Option<Chord> {
        if dead.alone == Some(character) {
            return Some(Chord::from_key(Key::SPACE));
        }
        pairs(dead.letters).find(|[_, composed]| *composed == character).and_then(|[letter, _]| self.direct(letter))
    }
}

/// Returns the pairs of a letter and the combined character.
fn pairs(letters: &str) -> impl Iterator<Item = [char; 2]> {
    letters.chars().zip(letters.chars().skip(1)).step_by(2).map(|(letter, combined)| [letter, combined])
}

impl Dead {
    fn chord(&self) -> Chord {
        let key = Key::from_table(self.key);
        Chord::from_keys(if self.shift { vec![Key::SHIFT, key] } else { vec![key] })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(layout: Layout, text: &str, expected: &str) {
        let typed = layout.chords(text).map(|chords| {
            let chords: Vec<String> = chords.iter().map(ToString::to_string).collect();
            chords.join(" ")
        });
        assert_eq!(typed.unwrap_or_else(|error| error.to_string()), expected);
    }

    #[test]
    fn test_layout_aliases_are_parsed_and_not_printed() {
        for (alias, name) in
            [("us", "us"), ("EN", "us"), ("en-us", "us"), ("uk", "uk"), ("gb", "uk"), ("de", "de"), ("fr", "fr")]
        {
            let layout: Layout = serde_json::from_value(alias.into()).unwrap();
            assert_eq!(serde_json::to_value(layout).unwrap(), name, "{alias}");
        }
        assert!("xx".parse::<Layout>().is_err());
    }

    #[test]
    fn test_chords_unsupported_character_has_code() {
        assert_eq!(Layout::Us.chords("ж").unwrap_err().code(), "keys.character-unsupported");
    }

    #[test]
    fn test_chords_type_printable_ascii_in_every_layout() {
        let ascii: String = (' '..='~').collect();
        for layout in Layout::VARIANTS {
            let chords = layout.chords(&ascii).unwrap_or_else(|error| panic!("{error}"));

            assert!(chords.len() >= ascii.len(), "{layout}");
        }
    }

    #[test]
    fn test_chords_type_symbols_of_layout() {
        check(Layout::Us, "aZ?", "a shift-z shift-slash");
        check(Layout::Uk, "£\"@#\\", "shift-3 shift-2 shift-apostrophe backslash less");
        check(Layout::De, "y{€ß|", "z alt_r-7 alt_r-e minus alt_r-less");
        check(Layout::Fr, "a1é.@", "q shift-1 2 shift-comma alt_r-0");
    }

    #[test]
    fn test_chords_use_dead_keys_for_accents() {
        check(Layout::De, "é^`È", "equal e grave_accent spc shift-equal spc shift-equal shift-e");
        check(Layout::Fr, "âÏ", "bracket_left q shift-bracket_left shift-i");
    }

    #[test]
    fn test_chords_accents_that_may_combine_are_followed_by_space() {
        check(Layout::De, "~a~x", "alt_r-bracket_right spc a alt_r-bracket_right x");
        check(Layout::De, "~~\n", "alt_r-bracket_right spc alt_r-bracket_right ret");
        check(Layout::De, "~ /~", "alt_r-bracket_right spc spc shift-7 alt_r-bracket_right spc");
        check(Layout::Fr, "^a`E~o", "alt_r-9 spc q alt_r-7 spc shift-e alt_r-2 spc o");
        check(Layout::Fr, "~/^$", "alt_r-2 shift-dot alt_r-9 bracket_right");
        check(Layout::Us, "~a`e^o", "shift-grave_accent a grave_accent e shift-6 o");
    }

    #[test]
    fn test_chords_type_any_line_break_as_enter() {
        check(Layout::Us, "a\nb\r\nc\rd\t", "a ret b ret c ret d tab");
    }

    #[test]
    fn test_chords_unsupported_character_has_position_and_hint() {
        check(Layout::Us, "ab\r\nc ü", "the layout `us` has no key for `ü` (U+00FC) in line 2, column 3");
        check(Layout::De, "\u{7}", "the layout `de` has no key for `\\u{7}` (U+0007) in line 1, column 1");

        let hints = Layout::Us.chords("ü").unwrap_err().hints();

        assert_eq!(hints, ["pass `--layout de` or `--layout fr`, if that is the keyboard layout of the guest"]);
    }

    #[test]
    fn test_layout_tables_have_unique_keys_and_characters() {
        let known: HashSet<&str> = Key::all().map(Key::name).collect();
        for layout in Layout::VARIANTS {
            let table = layout.table();
            assert_eq!(table.keys().count(), 48, "{layout}");
            let dead = table.dead.iter().map(|dead| dead.key);
            assert!(table.keys().map(|(name, _)| name).chain(dead).all(|name| known.contains(name)));
            let written: Vec<char> =
                table.keys().flat_map(|(_, levels)| levels.chars()).filter(|one| *one != table::NONE).collect();
            assert_eq!(written.iter().collect::<HashSet<_>>().len(), written.len(), "{layout}");
            assert!(table.keys().all(|(_, levels)| (1..=3).contains(&levels.chars().count())));
        }
    }

    #[test]
    fn test_chords_sign_for_no_character_is_not_typed() {
        check(Layout::De, "·", "the layout `de` has no key for `·` (U+00B7) in line 1, column 1");
    }

    #[test]
    fn test_layout_unknown_lists_names() {
        assert_eq!("GB".parse(), Ok(Layout::Uk));
        assert_eq!(
            "dvorak".parse::<Layout>().unwrap_err().to_string(),
            "unknown keyboard layout `dvorak`; known layouts: us, uk, de, fr"
        );
    }

    proptest! {
        #[test]
        fn test_chords_any_text_is_typed_completely_or_refused(text in "\\PC{0,80}") {
            for layout in Layout::VARIANTS {
                match layout.chords(&text) {
                    Ok(chords) => prop_assert!(chords.len() >= text.chars().count()),
                    Err(error) => prop_assert!(text.contains(error.character)),
                }
            }
        }
    }
}
