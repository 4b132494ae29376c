//! What was pressed and typed, and what the screen shows.

use std::io::{self, Write};

use maqet::operation::{KeysPressed, Screendump, Typed};

use super::TextOutput;
use super::escape_control;

impl TextOutput for KeysPressed {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let keys: Vec<String> = self.keys.iter().map(|chord| format!("`{chord}`")).collect();
        writeln!(out, "pressed {} on `{}`", keys.join(", "), self.name)
    }
}

impl TextOutput for Typed {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let noun = if self.characters == 1 { "character" } else { "characters" };
        writeln!(out, "typed {} {noun} at `{}`", self.characters, self.name)
    }
}

impl TextOutput for Screendump {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (width, height, format) = (self.width, self.height, self.format);
        writeln!(
            out,
            "the screen of `{}` is in {} ({format}, {width} x {height})",
            self.name,
            escape_control(&self.file)
        )
    }
}
