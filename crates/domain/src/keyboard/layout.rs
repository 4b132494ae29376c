//! Keyboard layouts: which keys type a text.

mod table;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use self::table::{Dead, Table};
use super::chord::Chord;
use super::key::Key;
use crate::error::{Explain, Explanation, Fault};
use crate::text::{did_you_mean, similar};

/// The keyboard layout that a guest is configured for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Layout {
    /// United States, the default of most guests.
    #[default]
    Us,
    /// United Kingdom.
    Uk,
    /// Germany.
    De,
    /// France.
    Fr,
}

/// A name that is not that of a layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown keyboard layout `{}`; {}", name.escape_debug(), suggestion(similar))]
pub struct UnknownLayout {
    /// The name.
    pub name: String,
    /// Similar names of layouts.
    pub similar: Vec<String>,
}

fn suggestion(similar: &[String]) -> String {
    let names: Vec<&str> = Layout::ALL.into_iter().map(Layout::name).collect();
    did_you_mean(similar).unwrap_or_else(|| format!("known layouts: {}", names.join(", ")))
}

/// A character that no key of a layout types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the layout `{layout}` has no key for `{}` (U+{:04X}) in line {line}, column {column}",
    character.escape_debug(), u32::from(*character))]
pub struct UnsupportedCharacter {
    /// The character.
    pub character: char,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The layout.
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
    /// All layouts.
    pub const ALL: [Self; 4] = [Self::Us, Self::Uk, Self::De, Self::Fr];

    /// Returns the name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Us => "us",
            Self::Uk => "uk",
            Self::De => "de",
            Self::Fr => "fr",
        }
    }

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
                let others = Self::ALL.into_iter().filter(|other| other.type_one(character, &mut Vec::new()));
                return Err(UnsupportedCharacter { character, line, column, layout: self, others: others.collect() });
            }
            column += 1;
            if matches!(character, '\n' | '\r') {
                (line, column) = (line + 1, 1);
            }
        }
        Ok(chords)
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
        let has_it = |row: &&(&'static str, &'static str)| row.1.chars().any(|one| one == character);
        let (name, levels) = self.table().rows.iter().find(has_it)?;
        let level = levels.chars().position(|one| one == character)?;
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
        let letters: Vec<char> = dead.letters.chars().collect();
        let (pair, _) = letters.as_chunks::<2>();
        pair.iter().find(|[_, composed]| *composed == character).and_then(|[letter, _]| self.direct(*letter))
    }
}

impl Dead {
    fn chord(&self) -> Chord {
        let key = Key::from_table(self.key);
        Chord::from_keys(if self.shift { vec![Key::SHIFT, key] } else { vec![key] })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = UnknownLayout;

    /// Parses a name; `gb` and `en` are aliases.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "us" | "en" | "en-us" => Ok(Self::Us),
            "uk" | "gb" | "en-gb" => Ok(Self::Uk),
            "de" => Ok(Self::De),
            "fr" => Ok(Self::Fr),
            _ => Err(UnknownLayout {
                name: text.chars().take(40).collect(),
                similar: similar(text, Self::ALL.into_iter().map(Self::name)),
            }),
        }
    }
}

impl TryFrom<String> for Layout {
    type Error = UnknownLayout;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Layout> for String {
    fn from(layout: Layout) -> Self {
        layout.name().to_owned()
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
            let layout = Layout::try_from(alias.to_owned()).unwrap();
            assert_eq!(String::from(layout), name, "{alias}");
        }
        assert!(Layout::try_from("xx".to_owned()).is_err());
    }

    #[test]
    fn test_chords_unsupported_character_has_code() {
        assert_eq!(Layout::Us.chords("ж").unwrap_err().code(), "keys.character-unsupported");
    }

    #[test]
    fn test_chords_type_printable_ascii_in_every_layout() {
        let ascii: String = (' '..='~').collect();
        for layout in Layout::ALL {
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
        check(Layout::Fr, "âÏ^", "bracket_left q shift-bracket_left shift-i alt_r-9");
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
        for layout in Layout::ALL {
            let table = layout.table();
            let names: Vec<&str> = table.rows.iter().map(|(name, _)| *name).collect();
            assert!(
                names
                    .iter()
                    .chain(&table.dead.iter().map(|dead| dead.key).collect::<Vec<_>>())
                    .all(|name| known.contains(name))
            );
            assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "{layout}");
            let written: Vec<char> =
                table.rows.iter().flat_map(|(_, levels)| levels.chars()).filter(|one| *one != ' ').collect();
            assert_eq!(written.iter().collect::<HashSet<_>>().len(), written.len(), "{layout}");
            assert!(table.rows.iter().all(|(_, levels)| (1..=3).contains(&levels.chars().count())));
        }
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
            for layout in Layout::ALL {
                match layout.chords(&text) {
                    Ok(chords) => prop_assert!(chords.len() >= text.chars().count()),
                    Err(error) => prop_assert!(text.contains(error.character)),
                }
            }
        }
    }
}
