//! Keys and their names.

use std::fmt;

use serde::Serialize;

use crate::text::similar;

/// A key, by QEMU's name for it (QAPI `QKeyCode`, 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Key(&'static str);

/// A name that is not that of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown key `{}`", name.escape_debug())]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct UnknownKey {
    pub name: String,
    pub similar: Vec<String>,
}

/// QEMU's names of the keys that type characters, row by row as they are on a keyboard; American ones lack `less`.
pub(super) const ROWS: [&str; 4] = [
    "grave_accent 1 2 3 4 5 6 7 8 9 0 minus equal",
    "q w e r t y u i o p bracket_left bracket_right",
    "a s d f g h j k l semicolon apostrophe backslash",
    "less z x c v b n m comma dot slash",
];

/// QEMU's names of the other keys, without `unmapped`, which is not a key.
const OTHERS: [&str; 10] = [
    // Modifiers and locks.
    "shift shift_r ctrl ctrl_r alt alt_r meta_l meta_r caps_lock num_lock scroll_lock",
    // Around the letters.
    "esc tab backspace ret spc menu compose",
    // Functions.
    "f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 f11 f12 print sysrq pause",
    // The cursor.
    "insert delete home end pgup pgdn up down left right",
    // The keypad.
    "kp_0 kp_1 kp_2 kp_3 kp_4 kp_5 kp_6 kp_7 kp_8 kp_9 kp_decimal kp_comma kp_enter kp_equals kp_add kp_subtract",
    "kp_multiply kp_divide asterisk",
    // Keyboards of Sun.
    "stop again props undo front copy open paste find cut help lf",
    // Japanese and Korean keyboards.
    "ro yen hiragana katakanahiragana henkan muhenkan lang1 lang2",
    // Power, sound and programs.
    "power sleep wake audionext audioprev audiostop audioplay audiomute volumeup volumedown mediaselect mail",
    "calculator computer ac_home ac_back ac_forward ac_refresh ac_bookmarks",
];

/// QEMU's names, and what else people call the keys.
const ALIASES: [(&str, &str); 35] = [
    ("ret", "enter return"),
    ("esc", "escape"),
    ("delete", "del"),
    ("insert", "ins"),
    ("spc", "space"),
    ("backspace", "bs bksp"),
    ("pgup", "pageup page_up"),
    ("pgdn", "pagedown page_down pgdown"),
    ("up", "arrow_up"),
    ("down", "arrow_down"),
    ("left", "arrow_left"),
    ("right", "arrow_right"),
    ("ctrl", "control ctrl_l"),
    ("shift", "shift_l"),
    ("alt", "alt_l option opt"),
    ("alt_r", "altgr"),
    ("meta_l", "super super_l win windows cmd command meta"),
    ("meta_r", "super_r"),
    ("caps_lock", "caps capslock"),
    ("num_lock", "numlock"),
    ("scroll_lock", "scrolllock"),
    ("print", "printscreen print_screen prtsc"),
    ("pause", "break"),
    ("minus", "dash hyphen -"),
    ("equal", "equals ="),
    ("dot", "period ."),
    ("apostrophe", "quote '"),
    ("grave_accent", "grave backtick `"),
    ("bracket_left", "left_bracket ["),
    ("bracket_right", "right_bracket ]"),
    ("lf", "linefeed"),
    ("comma", ","),
    ("slash", "/"),
    ("semicolon", ";"),
    ("backslash", "\\"),
];

/// Returns QEMU's names of all keys.
fn names() -> impl Iterator<Item = &'static str> {
    ROWS.into_iter().chain(OTHERS).flat_map(|row| row.split(' '))
}

/// Returns each alias and QEMU's name for it.
fn aliases() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALIASES.into_iter().flat_map(|(name, aliases)| aliases.split(' ').map(move |alias| (name, alias)))
}

/// Returns the name of the key that other programs call this: `leftshift`, `ControlLeft`, `KEY_RIGHTALT`, `uparrow`,
/// `numpad1`.
fn by_other_name(name: &str) -> Option<&'static str> {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let plain = plain.strip_prefix("key").filter(|rest| rest.len() > 1).unwrap_or(&plain);
    if let Some(digit) = ["numpad", "keypad", "kp"].iter().find_map(|pad| plain.strip_prefix(pad)) {
        return names().find(|known| known.strip_prefix("kp_") == Some(digit));
    }
    let is = |base: &str, known: &str| known.chars().filter(|one| *one != '_').eq(base.chars());
    let by_alias = |base: &str| aliases().find(|(_, alias)| is(base, alias)).map(|(key, _)| key);
    let find = |base: &str| names().find(|key| is(base, key)).or_else(|| by_alias(base));
    let cut = |affix: &str| plain.strip_prefix(affix).or_else(|| plain.strip_suffix(affix));
    let on_right = |base: &str| find(base).and_then(|key| names().find(|other| is_right_of(key, other)));
    find(plain)
        .or_else(|| cut("left").or_else(|| plain.strip_prefix('l')).and_then(find))
        .or_else(|| cut("right").or_else(|| plain.strip_prefix('r')).and_then(on_right))
        .or_else(|| cut("arrow").or_else(|| cut("cursor")).or_else(|| cut("key")).and_then(find))
}

/// Returns whether a key is that on the right of one that a keyboard has on both sides.
fn is_right_of(key: &str, other: &str) -> bool {
    other.strip_suffix("_r") == Some(key.strip_suffix("_l").unwrap_or(key))
}

impl Key {
    /// The key that types a line break.
    pub const ENTER: Self = Self("ret");

    /// The key that types a tab.
    pub const TAB: Self = Self("tab");

    pub(super) const SPACE: Self = Self("spc");
    pub(super) const SHIFT: Self = Self("shift");
    pub(super) const ALT_GR: Self = Self("alt_r");

    /// Finds a key by QEMU's name or an alias, ignoring case.
    ///
    /// ```
    /// use maqet_domain::keyboard::Key;
    ///
    /// assert_eq!(Key::parse("Enter").unwrap().name(), "ret");
    /// assert_eq!(Key::parse("entre").unwrap_err().similar, ["enter"]);
    /// ```
    pub fn parse(name: &str) -> Result<Self, UnknownKey> {
        let wanted = name.to_ascii_lowercase();
        let by_alias = || aliases().find(|(_, alias)| *alias == wanted).map(|(name, _)| name);
        let found = names().find(|name| *name == wanted).or_else(by_alias);
        found.map(Self).ok_or_else(|| {
            let similar = match by_other_name(&wanted) {
                Some(key) => vec![key.to_owned()],
                None => similar(name, names().chain(aliases().map(|(_, alias)| alias))),
            };
            UnknownKey { name: name.chars().take(MAX_SHOWN).collect(), similar }
        })
    }

    /// Returns QEMU's name for it.
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// Returns every key.
    pub fn all() -> impl Iterator<Item = Self> {
        names().map(Self)
    }

    /// Makes a key of a layout table; a test checks that QEMU has it.
    pub(super) const fn from_table(name: &'static str) -> Self {
        Self(name)
    }
}

/// The maximum length of an unknown name in a message, in characters; keys have up to 16.
const MAX_SHOWN: usize = 40;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn test_key_aliases_lead_to_keys_and_hide_none() {
        for (name, alias) in aliases() {
            assert!(names().any(|known| known == name), "{alias} leads to {name}");
            assert!(names().all(|known| known != alias), "{alias} hides a key of QEMU");
        }
    }

    #[test]
    fn test_key_names_are_unique() {
        assert_eq!((names().collect::<HashSet<_>>().len(), names().count()), (149, 149));
        assert_eq!(aliases().map(|(_, alias)| alias).collect::<HashSet<_>>().len(), aliases().count());
    }

    #[test]
    fn test_key_names_of_other_programs_lead_to_keys() {
        for (name, expected) in [
            ("leftshift", "shift"),
            ("lshift", "shift"),
            ("ShiftRight", "shift_r"),
            ("leftctrl", "ctrl"),
            ("right_control", "ctrl_r"),
            ("KEY_LEFTALT", "alt"),
            ("leftmeta", "meta_l"),
            ("rightwin", "meta_r"),
            ("uparrow", "up"),
            ("ArrowLeft", "left"),
            ("numpad1", "kp_1"),
            ("kp7", "kp_7"),
            ("PrintScrn", "printscreen"),
            ("windowskey", "meta_l"),
        ] {
            assert_eq!(Key::parse(name).unwrap_err().similar.first().map(String::as_str), Some(expected), "{name}");
        }
    }

    #[test]
    fn test_key_names_that_people_use_are_known() {
        let known =
            "control escape return pageup page_up pgup win super meta cmd option del ins space enter altgr caps";
        for name in known.split(' ') {
            assert!(Key::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn test_key_unknown_suggests_similar_names() {
        let unknown = Key::parse("crtl").unwrap_err();

        assert_eq!(unknown.similar.first().map(String::as_str), Some("ctrl"));
        assert_eq!(unknown.to_string(), "unknown key `crtl`");
    }
}
