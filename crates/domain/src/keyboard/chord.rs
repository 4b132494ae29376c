//! Keys that are pressed together.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::key::{Key, UnknownKey};
use crate::error::{Explain, Explanation, Fault};
use crate::qmp::QmpCommand;

/// Keys that are pressed one after the other and released in reverse order: `ctrl-alt-delete`, or `a` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chord(Vec<Key>);

/// A text that is not a valid [`Chord`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum InvalidChord {
    #[error("{unknown}{}", within(chord, &unknown.name))]
    UnknownKey { chord: String, unknown: UnknownKey },
    #[error("invalid chord `{}`: a key is missing", chord.escape_debug())]
    Empty { chord: String },
    #[error("invalid chord `{}`: the key `{key}` is repeated", chord.escape_debug())]
    Repeated { chord: String, key: Key },
    #[error("invalid chord `{}`: more than {} keys", chord.escape_debug(), Chord::MAX_KEYS)]
    TooMany { chord: String },
}

fn within(chord: &str, key: &str) -> String {
    if chord == key { String::new() } else { format!(" (in `{}`)", chord.escape_debug()) }
}

impl Explain for InvalidChord {
    fn explain(&self) -> Explanation {
        let invalid = Explanation::new("keys.chord-invalid", Fault::Usage);
        match self {
            Self::UnknownKey { unknown, .. } => {
                let explanation = Explanation::new("keys.key-not-found", Fault::Usage);
                if unknown.name.contains(char::is_whitespace) {
                    return explanation
                        .hint("write a chord as `ctrl-alt-delete`, and consecutive chords as separate arguments");
                }
                explanation.did_you_mean(&unknown.similar).or_hint("type a text with `maqet type`")
            }
            Self::Empty { .. } => invalid.hint("write it as `ctrl-alt-delete`; the key `-` is `minus`"),
            Self::Repeated { .. } | Self::TooMany { .. } => {
                invalid.hint("write consecutive keys as separate arguments")
            }
        }
    }
}

impl Chord {
    /// The maximum number of keys: all modifiers on both sides of a keyboard, and some more.
    pub const MAX_KEYS: usize = 10;

    /// Parses `ctrl-alt-delete`; the separator is `-` or `+`.
    ///
    /// ```
    /// use maqet_domain::keyboard::Chord;
    ///
    /// assert_eq!(Chord::parse("Ctrl+Alt+Del").unwrap().to_string(), "ctrl-alt-delete");
    /// ```
    pub fn parse(text: &str) -> Result<Self, InvalidChord> {
        // `-` alone is a key.
        if let Ok(key) = Key::parse(text) {
            return Ok(Self(vec![key]));
        }
        let chord: String = text.chars().take(MAX_SHOWN).collect();
        let mut keys = Vec::new();
        for name in text.split(['-', '+']) {
            if name.is_empty() {
                return Err(InvalidChord::Empty { chord });
            }
            let key = match Key::parse(name) {
                Ok(key) => key,
                Err(unknown) => return Err(InvalidChord::UnknownKey { chord, unknown }),
            };
            if keys.contains(&key) {
                return Err(InvalidChord::Repeated { chord, key });
            }
            if keys.len() == Self::MAX_KEYS {
                return Err(InvalidChord::TooMany { chord });
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// Makes a chord of one key.
    pub fn from_key(key: Key) -> Self {
        Self(vec![key])
    }

    /// Makes a chord of keys that are valid together.
    pub(super) const fn from_keys(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    /// Returns the keys in the order they are pressed.
    pub fn keys(&self) -> &[Key] {
        &self.0
    }

    /// Returns the command that presses and releases the keys, with a pause of `interval` after each.
    ///
    /// QEMU replies at once, pauses on the guest's clock, and releases the keys even if the client is gone (`send-key`,
    /// 7.2). It silently drops commands that follow too soon, as its queue holds some 170 key events.
    pub fn press(&self, interval: Duration) -> QmpCommand {
        let keys: Vec<Value> = self.0.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        let hold_time = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        QmpCommand::new("send-key").with("keys", keys).with("hold-time", hold_time)
    }

    /// Returns how long that takes, until the next chord may follow.
    pub fn duration(&self, interval: Duration) -> Duration {
        let events = u32::try_from(self.0.len()).unwrap_or(u32::MAX).saturating_mul(2);
        interval.saturating_mul(events)
    }
}

/// The maximum length of an invalid chord in a message, in characters.
const MAX_SHOWN: usize = 80;

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
    fn test_chord_common_forms_are_parsed() {
        check("a", "a");
        check("ctrl-alt-delete", "ctrl-alt-delete");
        check("Cmd+Shift+4", "meta_l-shift-4");
        check("alt_r-q", "alt_r-q");
        check("-", "minus");
        check("ctrl-minus", "ctrl-minus");
    }

    #[test]
    fn test_chord_keeps_order_of_keys() {
        let chord = Chord::parse("ctrl-alt-delete").unwrap();

        let keys: Vec<String> = chord.keys().iter().map(ToString::to_string).collect();
        assert_eq!(keys, ["ctrl", "alt", "delete"]);
    }

    #[test]
    fn test_chord_invalid_has_code_and_hint() {
        let explain = |text: &str| {
            let refused = Chord::parse(text).unwrap_err();
            (refused.code(), refused.hints().join(" "))
        };

        let (code, hint) = explain("ctrl alt delete");
        assert!(code == "keys.key-not-found" && hint.contains("separate arguments"), "{code}: {hint}");
        let (code, hint) = explain("ctrl-alt-delte");
        assert!(code == "keys.key-not-found" && hint.contains("`delete`"), "{code}: {hint}");
        let (code, hint) = explain("ctrl--");
        assert!(code == "keys.chord-invalid" && hint.contains("`minus`"), "{code}: {hint}");
    }

    #[test]
    fn test_chord_invalid_message_names_the_mistake() {
        check("ctrl-alt-delte", "unknown key `delte` (in `ctrl-alt-delte`)");
        check("hello", "unknown key `hello`");
        check("", "invalid chord ``: a key is missing");
        check("ctrl--", "invalid chord `ctrl--`: a key is missing");
        check("ctrl-control", "invalid chord `ctrl-control`: the key `ctrl` is repeated");
        check("1-2-3-4-5-6-7-8-9-0-a", "invalid chord `1-2-3-4-5-6-7-8-9-0-a`: more than 10 keys");
    }

    #[test]
    fn test_press_is_one_command_with_hold_time() {
        let chord = Chord::parse("shift-a").unwrap();

        let command = chord.press(Duration::from_millis(10));

        let keys = json!([{"type": "qcode", "data": "shift"}, {"type": "qcode", "data": "a"}]);
        assert_eq!(json!(command), json!({"execute": "send-key", "arguments": {"keys": keys, "hold-time": 10}}));
        assert_eq!(chord.duration(Duration::from_millis(10)), Duration::from_millis(40));
    }

    proptest! {
        #[test]
        fn test_chord_any_text_is_valid_or_refused(text in "\\PC{0,60}") {
            match Chord::parse(&text) {
                Ok(chord) => prop_assert_eq!(Chord::parse(&chord.to_string()), Ok(chord)),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}
