//! The characters that each key types, by layout.
//!
//! A key has three levels: alone, with Shift, with `AltGr`. Those with `AltGr` are listed only where they are printed on
//! keyboards and Linux and Windows agree. Dead keys, whose accent is combined with the next letter, are in [`Dead`]; the
//! rows hold only their other levels.

use crate::keyboard::key::ROWS;

/// Stands for a level or a key without a character.
pub(super) const NONE: char = '·';

/// A layout.
pub(super) struct Table {
    /// The characters of the keys in [`ROWS`], on one to three levels each.
    rows: [&'static str; 4],
    /// The dead keys.
    pub(super) dead: &'static [Dead],
    /// The accents with `AltGr` that are dead keys on some guests only.
    pub(super) sometimes_dead: &'static [SometimesDead],
}

impl Table {
    /// Returns the keys and their characters, by level.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        ROWS.iter().zip(&self.rows).flat_map(|(keys, levels)| keys.split(' ').zip(levels.split(' ')))
    }
}

/// A dead key.
pub(super) struct Dead {
    /// The accent alone, typed with the space bar, where guests agree on it.
    pub(super) alone: Option<char>,
    /// The key.
    pub(super) key: &'static str,
    /// Whether Shift is needed.
    pub(super) shift: bool,
    /// Pairs of a letter and the combined character.
    pub(super) letters: &'static str,
}

/// An accent in the rows whose key is a dead key for some guests of this layout: Linux consoles with `de-latin1` or
/// `fr-latin1`, and Windows for `fr`, but not X11.
pub(super) struct SometimesDead {
    /// The accent.
    pub(super) accent: char,
    /// Pairs of a letter and the combined character.
    pub(super) letters: &'static str,
}

const ACUTE: &str = "aáeéiíoóuúyýAÁEÉIÍOÓUÚYÝ";
const GRAVE: &str = "aàeèiìoòuùAÀEÈIÌOÒUÙ";
const CIRCUMFLEX: &str = "aâeêiîoôuûAÂEÊIÎOÔUÛ";
const DIAERESIS: &str = "aäeëiïoöuüyÿAÄEËIÏOÖUÜ";
const TILDE: &str = "aãnñoõAÃNÑOÕ";

/// United States.
pub(super) const US: Table = Table {
    rows: [
        "`~ 1! 2@ 3# 4$ 5% 6^ 7& 8* 9( 0) -_ =+",
        "qQ wW eE rR tT yY uU iI oO pP [{ ]}",
        r#"aA sS dD fF gG hH jJ kK lL ;: '" \|"#,
        "· zZ xX cC vV bB nN mM ,< .> /?",
    ],
    dead: &[],
    sometimes_dead: &[],
};

/// United Kingdom.
pub(super) const UK: Table = Table {
    rows: [
        r#"`¬ 1! 2" 3£ 4$€ 5% 6^ 7& 8* 9( 0) -_ =+"#,
        "qQ wW eE rR tT yY uU iI oO pP [{ ]}",
        "aA sS dD fF gG hH jJ kK lL ;: '@ #~",
        r"\| zZ xX cC vV bB nN mM ,< .> /?",
    ],
    dead: &[],
    sometimes_dead: &[],
};

/// Germany.
pub(super) const DE: Table = Table {
    rows: [
        r#"·° 1! 2"² 3§³ 4$ 5% 6& 7/{ 8([ 9)] 0=} ß?\ ·"#,
        "qQ@ wW eE€ rR tT zZ uU iI oO pP üÜ +*~",
        "aA sS dD fF gG hH jJ kK lL öÖ äÄ #'",
        "<>| yY xX cC vV bB nN mMµ ,; .: -_",
    ],
    dead: &[
        Dead { alone: Some('^'), key: "grave_accent", shift: false, letters: CIRCUMFLEX },
        // With the space bar Linux consoles write `'` and Windows `´`.
        Dead { alone: None, key: "equal", shift: false, letters: ACUTE },
        Dead { alone: Some('`'), key: "equal", shift: true, letters: GRAVE },
    ],
    sometimes_dead: &[SometimesDead { accent: '~', letters: TILDE }],
};

/// France.
pub(super) const FR: Table = Table {
    rows: [
        r#"² &1 é2~ "3# '4{ (5[ -6| è7` _8\ ç9^ à0@ )°] =+}"#,
        "aA zZ eE€ rR tT yY uU iI oO pP · $£",
        "qQ sS dD fF gG hH jJ kK lL mM ù% *µ",
        "<> wW xX cC vV bB nN ,? ;. :/ !§",
    ],
    dead: &[
        Dead { alone: None, key: "bracket_left", shift: false, letters: CIRCUMFLEX },
        Dead { alone: None, key: "bracket_left", shift: true, letters: DIAERESIS },
    ],
    sometimes_dead: &[
        SometimesDead { accent: '~', letters: TILDE },
        SometimesDead { accent: '`', letters: GRAVE },
        SometimesDead { accent: '^', letters: CIRCUMFLEX },
    ],
};
