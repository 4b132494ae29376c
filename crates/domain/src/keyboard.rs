//! The guest's keyboard: names of keys, chords, and texts as the keys that type them.
//!
//! QEMU names keys by where they are on a keyboard with the American layout (QAPI `QKeyCode`); what a key writes is
//! decided by the layout that the guest believes in. So a text is typed by [`Layout::chords`] of the guest's layout.

mod chord;
mod key;
mod layout;

pub use self::chord::{Chord, InvalidChord};
pub use self::key::{Key, UnknownKey};
pub use self::layout::{Layout, UnknownLayout, Untypable};

use crate::qmp::RunState;

/// Returns whether a machine in this state hears its keyboard; in any other QEMU drops keys without a word (7.2).
///
/// A guest that sleeps is woken by them.
pub const fn hears_keys(state: RunState) -> bool {
    matches!(state, RunState::Running | RunState::Suspended)
}
