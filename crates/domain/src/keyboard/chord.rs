//! Keys that are down together.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::key::{Key, UnknownKey};
use crate::error::{Explain, Fault};
use crate::qmp::QmpCommand;
use crate::text::did_you_mean;

/// Keys that go down one after the other and come up the other way round: `ctrl-alt-delete`, or `a` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chord(Vec<Key>);

/// A text that is no [`Chord`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChord {
    /// One of its keys does not exist.
    #[error("{unknown}{}", within(chord, &unknown.given))]
    Unknown {
        /// The whole.
        chord: String,
        /// The key.
        unknown: UnknownKey,
    },
    /// A name is missing between two separators, before the first or after the last.
    #[error("`{}` lacks the name of a key", chord.escape_debug())]
    Empty {
        /// The whole.
        chord: String,
    },
    /// A key cannot be down twice.
    #[error("`{}` holds the key `{key}` twice", chord.escape_debug())]
    Repeated {
        /// The whole.
        chord: String,
        /// The key.
        key: Key,
    },
    /// More keys than hands.
    #[error("`{}` holds more than {} keys", chord.escape_debug(), Chord::MOST)]
    TooMany {
        /// The whole.
        chord: String,
    },
}

fn within(chord: &str, key: &str) -> String {
    if chord == key { String::new() } else { format!(" (in `{}`)", chord.escape_debug()) }
}

impl Explain for InvalidChord {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "keys.unknown",
            Self::Empty { .. } | Self::Repeated { .. } | Self::TooMany { .. } => "keys.chord-invalid",
        }
    }

    fn fault(&self) -> Fault {
        Fault::Usage
    }

    fn hints(&self) -> Vec<String> {
        match self {
            Self::Unknown { unknown, .. } if unknown.given.contains(char::is_whitespace) => {
                vec![
                    "write a chord as `ctrl-alt-delete`, and keys that follow each other as words of their own"
                        .to_owned(),
                ]
            }
            Self::Unknown { unknown, .. } => vec![
                did_you_mean(&unknown.similar)
                    .unwrap_or_else(|| "to type a text instead of pressing keys, use `maqet type`".to_owned()),
            ],
            Self::Empty { .. } => vec!["write it as `ctrl-alt-delete`; the key `-` is `minus`".to_owned()],
            Self::Repeated { .. } | Self::TooMany { .. } => {
                vec!["write keys that are pressed one after the other as words of their own".to_owned()]
            }
        }
    }
}

impl Chord {
    /// The most keys of a chord: four modifiers on either side of a keyboard and some more; nobody presses as many.
    pub const MOST: usize = 10;

    /// Reads `ctrl-alt-delete`; `+` separates as well as `-`.
    ///
    /// ```
    /// use maqet_domain::keyboard::Chord;
    ///
    /// assert_eq!(Chord::parse("Ctrl+Alt+Del").unwrap().to_string(), "ctrl-alt-delete");
    /// ```
    pub fn parse(text: &str) -> Result<Self, InvalidChord> {
        // The key `-` is called so as well as `minus`.
        if let Ok(key) = Key::parse(text) {
            return Ok(Self(vec![key]));
        }
        let chord: String = text.chars().take(SHOWN_CHARS).collect();
        let mut keys = Vec::new();
        for name in text.split(['-', '+']) {
            if name.is_empty() {
                return Err(InvalidChord::Empty { chord });
            }
            let key = match Key::parse(name) {
                Ok(key) => key,
                Err(unknown) => return Err(InvalidChord::Unknown { chord, unknown }),
            };
            if keys.contains(&key) {
                return Err(InvalidChord::Repeated { chord, key });
            }
            if keys.len() == Self::MOST {
                return Err(InvalidChord::TooMany { chord });
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// Makes the chord of a key alone.
    pub fn from_key(key: Key) -> Self {
        Self(vec![key])
    }

    /// Makes a chord of a layout.
    pub(super) const fn of_layout(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    /// Returns its keys in the order in which they go down.
    pub fn keys(&self) -> &[Key] {
        &self.0
    }

    /// Returns the command that has QEMU press and release it, with `edge` after each key that goes down or up.
    ///
    /// QEMU waits by itself, on the guest's clock, and releases what it pressed even if whoever asked is gone, also by
    /// SIGKILL (`send-key`, 7.2). Commands that follow too soon are lost: it keeps some 170 keys, and says nothing.
    pub fn press(&self, edge: Duration) -> QmpCommand {
        let keys: Vec<Value> = self.0.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        let hold_time = u64::try_from(edge.as_millis()).unwrap_or(u64::MAX);
        QmpCommand::new("send-key").with("keys", keys).with("hold-time", hold_time)
    }

    /// Returns how long that takes until the next key may follow.
    pub fn takes(&self, edge: Duration) -> Duration {
        let edges = u32::try_from(self.0.len()).unwrap_or(u32::MAX).saturating_mul(2);
        edge.saturating_mul(edges)
    }
}

/// How much of a text that is no chord is shown.
const SHOWN_CHARS: usize = 80;

impl fmt::Display for Chord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, key) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "-" };
            write!(f, "{separator}{key}")?;
        }
        Ok(())
    }
}

impl Serialize for Chord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let read = Chord::parse(text).map_or_else(|error| error.to_string(), |chord| chord.to_string());
        assert_eq!(read, expected);
    }

    #[test]
    fn test_chord_usual_forms_are_read() {
        check("a", "a");
        check("ctrl-alt-delete", "ctrl-alt-delete");
        check("Cmd+Shift+4", "meta_l-shift-4");
        check("alt_r-q", "alt_r-q");
        check("-", "minus");
        check("ctrl-minus", "ctrl-minus");
    }

    #[test]
    fn test_chord_keys_go_down_in_their_order() {
        let chord = Chord::parse("ctrl-alt-delete").unwrap();

        let keys: Vec<String> = chord.keys().iter().map(ToString::to_string).collect();
        assert_eq!(keys, ["ctrl", "alt", "delete"]);
    }

    #[test]
    fn test_chord_mistakes_are_told_with_what_to_write() {
        let told = |text: &str| {
            let refused = Chord::parse(text).unwrap_err();
            (refused.code(), refused.hints().join(" "))
        };

        let (code, hint) = told("ctrl alt delete");
        assert!(code == "keys.unknown" && hint.contains("words of their own"), "{code}: {hint}");
        let (code, hint) = told("ctrl-alt-delte");
        assert!(code == "keys.unknown" && hint.contains("`delete`"), "{code}: {hint}");
        let (code, hint) = told("ctrl--");
        assert!(code == "keys.chord-invalid" && hint.contains("`minus`"), "{code}: {hint}");
    }

    #[test]
    fn test_chord_mistakes_are_named() {
        check("ctrl-alt-delte", "there is no key `delte` (in `ctrl-alt-delte`)");
        check("hello", "there is no key `hello`");
        check("", "`` lacks the name of a key");
        check("ctrl--", "`ctrl--` lacks the name of a key");
        check("ctrl-control", "`ctrl-control` holds the key `ctrl` twice");
        check("1-2-3-4-5-6-7-8-9-0-a", "`1-2-3-4-5-6-7-8-9-0-a` holds more than 10 keys");
    }

    #[test]
    fn test_press_is_one_command_with_a_pause_after_each_edge() {
        let chord = Chord::parse("shift-a").unwrap();

        let command = chord.press(Duration::from_millis(10));

        let keys = json!([{"type": "qcode", "data": "shift"}, {"type": "qcode", "data": "a"}]);
        assert_eq!(json!(command), json!({"execute": "send-key", "arguments": {"keys": keys, "hold-time": 10}}));
        assert_eq!(chord.takes(Duration::from_millis(10)), Duration::from_millis(40));
    }

    proptest! {
        #[test]
        fn test_chord_any_text_is_a_chord_or_refused_in_words(text in "\\PC{0,60}") {
            match Chord::parse(&text) {
                Ok(chord) => prop_assert_eq!(Chord::parse(&chord.to_string()), Ok(chord)),
                Err(why) => prop_assert!(!why.to_string().is_empty()),
            }
        }
    }
}
