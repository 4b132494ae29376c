//! The guest's keyboard: keys, chords, and layouts.
//!
//! QEMU names keys by their position on an American keyboard (QAPI `QKeyCode`); the layout of the guest decides what a key
//! types. [`Layout::chords`] returns the keys for a text.

mod chord;
mod device;
mod key;
mod layout;

pub use self::chord::{Chord, InvalidChord};
pub use self::device::{DEVICE_PARENTS, has_only_known_keyboards, is_keyboard};
pub use self::key::{Key, UnknownKey};
pub use self::layout::{Layout, UnknownLayout, UnsupportedCharacter};

use crate::qmp::RunState;

/// Returns whether QEMU passes keys to the guest in this state; in others it drops them silently (7.2).
///
/// A suspended guest is woken by them.
pub const fn accepts_keys(state: RunState) -> bool {
    matches!(state, RunState::Running | RunState::Suspended)
}
