//! Results of `maqet database`.

use std::io::{self, Write};

use indicatif::BinaryBytes;
use maqet::operation::{DatabaseBackedUp, DatabaseMoved, DatabaseReclaimed, DatabaseState};

use super::TextOutput;
use crate::render::sanitize::escape_control;

impl TextOutput for DatabaseState {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let location = escape_control(&self.location);
        if self.exists {
            let (vms, bytes) = (self.vms.unwrap_or_default(), BinaryBytes(self.bytes.unwrap_or_default()));
            let schema = self.schema.unwrap_or_default();
            writeln!(out, "`{location}` is intact: VMs: {vms}, schema {schema}, {bytes}")?;
        } else {
            writeln!(out, "`{location}` does not exist yet")?;
        }
        if let Some(why) = &self.unwritable {
            writeln!(out, "  it cannot be written: {}", escape_control(why))?;
        }
        for name in &self.missing {
            writeln!(
                out,
                "  VM `{name}` is missing; run `maqet doctor --fix` to add it from the copy of its definition"
            )?;
        }
        match &self.newest_backup {
            Some(newest) => writeln!(out, "  the newest backup is `{}`", escape_control(newest)),
            None => Ok(()),
        }
    }
}

impl TextOutput for DatabaseBackedUp {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "backed up the database to `{}`", escape_control(&self.file))
    }
}

impl TextOutput for DatabaseMoved {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (from, to) = (escape_control(&self.from), escape_control(&self.to));
        let Self { vms, changes, events, .. } = self;
        writeln!(out, "moved `{from}` to `{to}`: VMs: {vms}, changes: {changes}, events: {events}")?;
        writeln!(out, "  to use it, set `database` in `maqet.conf` to the URL that you passed")
    }
}

impl TextOutput for DatabaseReclaimed {
    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (location, vms) = (escape_control(&self.location), self.vms);
        if self.lost.is_none() {
            return writeln!(out, "`{location}` is in use: VMs: {vms}");
        }
        writeln!(out, "`{location}` is used again: VMs: {vms}")?;
        writeln!(
            out,
            "  run `maqet doctor --fix` to add VMs that were added since, from the copies of their definitions"
        )
    }
}
