//! The keyboard and the screen of a guest.

pub(crate) mod keyboard;
pub(crate) mod keyboard_error;
pub(crate) mod screen;
