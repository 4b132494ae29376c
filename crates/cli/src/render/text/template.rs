//! Results of `maqet template`.

use std::borrow::Cow;
use std::io::{self, Write};

use indicatif::BinaryBytes;
use maqet::operation::{TemplateCreated, TemplateList, TemplateRemoved, TemplateSummary};

use super::lifecycle::seconds;
use super::table::write_table;
use super::{PLAIN, TextOutput, whole_seconds};
use crate::render::sanitize::escape_control;

impl TextOutput for TemplateCreated {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let TemplateSummary { name, boot_ms, saved_bytes, .. } = &self.template;
        writeln!(out, "made template `{name}` ({}), which booted in {}", BinaryBytes(*saved_bytes), seconds(*boot_ms))
    }
}

impl TextOutput for TemplateList {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let row = |one: &TemplateSummary| {
            let (from, taken) = (escape_control(&one.from.join(", ")).into_owned(), whole_seconds(&one.taken_at));
            let state = one.stale.as_deref().map_or_else(|| "fresh".to_owned(), |why| format!("stale: {why}"));
            let state = escape_control(&state).into_owned();
            let (size, boot) = (BinaryBytes(one.saved_bytes).to_string(), seconds(one.boot_ms));
            [one.name.clone(), from, taken, size, boot, state].map(Cow::from)
        };
        let rows = self.templates.iter().map(|one| (PLAIN, row(one)));
        write_table(out, &["NAME", "FROM", "TAKEN", "SIZE", "BOOT", "STATE"], 3, rows)
    }
}

impl TextOutput for TemplateRemoved {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        self.removed.iter().try_for_each(|name| writeln!(out, "removed template `{name}`"))
    }
}
