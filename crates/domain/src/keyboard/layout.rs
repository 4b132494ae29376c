//! Texts as the keys that type them.

mod table;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use self::table::{Dead, Table};
use super::chord::Chord;
use super::key::Key;
use crate::error::{Explain, Fault};
use crate::text::{did_you_mean, similar};

/// The layout of the keyboard that a guest believes it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Layout {
    /// The United States; what a guest has that nobody told otherwise.
    #[default]
    Us,
    /// The United Kingdom.
    Uk,
    /// Germany.
    De,
    /// France.
    Fr,
}

/// A name that no layout has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no keyboard layout `{}`{}", given.escape_debug(), instead(similar))]
pub struct UnknownLayout {
    /// What was given.
    pub given: String,
    /// Names that look like it.
    pub similar: Vec<String>,
}

fn instead(similar: &[String]) -> String {
    let names: Vec<&str> = Layout::ALL.into_iter().map(Layout::name).collect();
    did_you_mean(similar).map_or_else(|| format!("; there are {}", names.join(", ")), |hint| format!("; {hint}"))
}

/// A character that no key of a layout writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no key of the layout `{layout}` types `{}` (U+{:04X}) in line {line}, column {column}",
    character.escape_debug(), u32::from(*character))]
pub struct Untypable {
    /// The character.
    pub character: char,
    /// Its line, from 1.
    pub line: usize,
    /// Its place in the line in characters, from 1.
    pub column: usize,
    /// The layout.
    pub layout: Layout,
    /// The layouts that have it.
    pub elsewhere: Vec<Layout>,
}

impl Explain for Untypable {
    fn code(&self) -> &'static str {
        "keys.untypable"
    }

    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn hints(&self) -> Vec<String> {
        let there: Vec<String> = self.elsewhere.iter().map(|layout| format!("`--layout {layout}`")).collect();
        if there.is_empty() {
            return vec!["leave it out, or bring the text to the guest as a file".to_owned()];
        }
        vec![format!("if the guest's keyboard is another one, say so: {}", there.join(" or "))]
    }
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Us, Self::Uk, Self::De, Self::Fr];

    /// Returns its name.
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

    /// Returns the chords that type `text`; a line break is Enter, however it is written, and a tab is Tab.
    ///
    /// ```
    /// use maqet_domain::keyboard::Layout;
    ///
    /// let typed = |layout: Layout| layout.chords("Y@").unwrap().iter().map(ToString::to_string).collect::<Vec<_>>();
    /// assert_eq!(typed(Layout::Us), ["shift-y", "shift-2"]);
    /// assert_eq!(typed(Layout::De), ["shift-z", "alt_r-q"]);
    /// ```
    ///
    /// Errors: the first character that cannot be typed, and where it is.
    pub fn chords(self, text: &str) -> Result<Vec<Chord>, Untypable> {
        let mut chords = Vec::with_capacity(text.len());
        let (mut line, mut column) = (1, 1);
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            if character == '\r' && characters.peek() == Some(&'\n') {
                continue;
            }
            if !self.type_one(character, &mut chords) {
                let elsewhere = Self::ALL.into_iter().filter(|other| other.type_one(character, &mut Vec::new()));
                return Err(Untypable { character, line, column, layout: self, elsewhere: elsewhere.collect() });
            }
            column += 1;
            if matches!(character, '\n' | '\r') {
                (line, column) = (line + 1, 1);
            }
        }
        Ok(chords)
    }

    /// Adds what types a character; returns whether anything does.
    fn type_one(self, character: char, chords: &mut Vec<Chord>) -> bool {
        let plain = match character {
            '\n' | '\r' => Some(Chord::from_key(Key::ENTER)),
            '\t' => Some(Chord::from_key(Key::TAB)),
            ' ' => Some(Chord::from_key(Key::SPACE)),
            other => self.at_once(other),
        };
        if let Some(chord) = plain {
            chords.push(chord);
            return true;
        }
        let composed = self.table().dead.iter().find_map(|dead| Some((dead, self.behind(dead, character)?)));
        if let Some((dead, then)) = composed {
            chords.extend([dead.chord(), then]);
            return true;
        }
        false
    }

    /// Returns the chord that writes a character by itself.
    fn at_once(self, character: char) -> Option<Chord> {
        let written = |row: &&(&'static str, &'static str)| row.1.chars().any(|one| one == character);
        let (name, levels) = self.table().rows.iter().find(written)?;
        let level = levels.chars().position(|one| one == character)?;
        let key = Key::of_table(name);
        Some(Chord::of_layout(match level {
            0 => vec![key],
            1 => vec![Key::SHIFT, key],
            _ => vec![Key::ALT_GR, key],
        }))
    }

    /// Returns the chord that has to follow a dead key for a character to come of both.
    fn behind(self, dead: &Dead, character: char) -> Option<Chord> {
        if dead.alone == Some(character) {
            return Some(Chord::from_key(Key::SPACE));
        }
        let letters: Vec<char> = dead.letters.chars().collect();
        let (pair, _) = letters.as_chunks::<2>();
        pair.iter().find(|[_, composed]| *composed == character).and_then(|[letter, _]| self.at_once(*letter))
    }
}

impl Dead {
    fn chord(&self) -> Chord {
        let key = Key::of_table(self.key);
        Chord::of_layout(if self.shift { vec![Key::SHIFT, key] } else { vec![key] })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Layout {
    type Err = UnknownLayout;

    /// Reads its name; `gb` and `en` are what others call two of them.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "us" | "en" | "en-us" => Ok(Self::Us),
            "uk" | "gb" | "en-gb" => Ok(Self::Uk),
            "de" => Ok(Self::De),
            "fr" => Ok(Self::Fr),
            _ => Err(UnknownLayout {
                given: text.chars().take(40).collect(),
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
    fn test_layout_is_read_by_its_names_and_written_by_the_first() {
        for (given, name) in
            [("us", "us"), ("EN", "us"), ("en-us", "us"), ("uk", "uk"), ("gb", "uk"), ("de", "de"), ("fr", "fr")]
        {
            let layout = Layout::try_from(given.to_owned()).unwrap();
            assert_eq!(String::from(layout), name, "{given}");
        }
        assert!(Layout::try_from("xx".to_owned()).is_err());
    }

    #[test]
    fn test_chords_character_without_a_key_has_a_code() {
        assert_eq!(Layout::Us.chords("ж").unwrap_err().code(), "keys.untypable");
    }

    #[test]
    fn test_chords_printable_ascii_is_typed_in_every_layout() {
        let ascii: String = (' '..='~').collect();
        for layout in Layout::ALL {
            let chords = layout.chords(&ascii).unwrap_or_else(|error| panic!("{error}"));

            assert!(chords.len() >= ascii.len(), "{layout}");
        }
    }

    #[test]
    fn test_chords_symbols_are_where_the_layout_has_them() {
        check(Layout::Us, "aZ?", "a shift-z shift-slash");
        check(Layout::Uk, "£\"@#\\", "shift-3 shift-2 shift-apostrophe backslash less");
        check(Layout::De, "y{€ß|", "z alt_r-7 alt_r-e minus alt_r-less");
        check(Layout::Fr, "a1é.@", "q shift-1 2 shift-comma alt_r-0");
    }

    #[test]
    fn test_chords_accents_wait_for_their_letter_or_the_space_bar() {
        check(Layout::De, "é^`È", "equal e grave_accent spc shift-equal spc shift-equal shift-e");
        check(Layout::Fr, "âÏ^", "bracket_left q shift-bracket_left shift-i alt_r-9");
    }

    #[test]
    fn test_chords_line_breaks_are_enter_however_they_are_written() {
        check(Layout::Us, "a\nb\r\nc\rd\t", "a ret b ret c ret d tab");
    }

    #[test]
    fn test_chords_untypable_character_is_named_with_its_place_and_who_has_it() {
        check(Layout::Us, "ab\r\nc ü", "no key of the layout `us` types `ü` (U+00FC) in line 2, column 3");
        check(Layout::De, "\u{7}", "no key of the layout `de` types `\\u{7}` (U+0007) in line 1, column 1");

        let elsewhere = Layout::Us.chords("ü").unwrap_err().hints();

        assert_eq!(elsewhere, ["if the guest's keyboard is another one, say so: `--layout de` or `--layout fr`"]);
    }

    #[test]
    fn test_tables_name_keys_of_qemu_once_and_characters_once() {
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
    fn test_layout_other_names_are_understood_and_unknown_ones_listed() {
        assert_eq!("GB".parse(), Ok(Layout::Uk));
        assert_eq!(
            "dvorak".parse::<Layout>().unwrap_err().to_string(),
            "there is no keyboard layout `dvorak`; there are us, uk, de, fr"
        );
    }

    proptest! {
        #[test]
        fn test_chords_any_text_is_typed_whole_or_refused(text in "\\PC{0,80}") {
            for layout in Layout::ALL {
                match layout.chords(&text) {
                    Ok(chords) => prop_assert!(chords.len() >= text.chars().count()),
                    Err(why) => prop_assert!(text.contains(why.character)),
                }
            }
        }
    }
}
