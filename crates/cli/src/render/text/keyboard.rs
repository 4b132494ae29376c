//! Keyboard input and screenshots.

use std::io::{self, Write};

use maqet::domain::text::quoted_list;
use maqet::operation::{KeysPressed, Screendump, TextTyped};

use super::{TextOutput, counted};
use crate::render::sanitize::escape_control;

impl TextOutput for KeysPressed {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "pressed {} on `{}`", quoted_list(&self.given), self.name)
    }
}

impl TextOutput for TextTyped {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "typed {} on `{}`", counted(self.characters, "character"), self.name)
    }
}

impl TextOutput for Screendump {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { name, width, height, format, .. } = self;
        let file = escape_control(&self.file);
        writeln!(out, "saved a screenshot of `{name}` to {file} ({format}, {width}x{height})")
    }
}
